/**
 * @file The part of ONNX's protobuf schema that we read. Fields that are not named here are skipped by the decoder; field
 * numbers are those of onnx.proto.
 */
import protobuf from 'protobufjs/light.js';

const one = (id: number, type: string) => ({ id, type });
const many = (id: number, type: string) => ({ id, type, rule: 'repeated' as const });
const packed = (id: number, type: string) => ({
  id,
  type,
  rule: 'repeated' as const,
  options: { packed: true },
});

const schema: protobuf.INamespace = {
  nested: {
    ModelProto: {
      fields: {
        irVersion: one(1, 'int64'),
        graph: one(7, 'GraphProto'),
        opsetImport: many(8, 'OperatorSetIdProto'),
        functions: many(25, 'FunctionProto'),
      },
    },
    OperatorSetIdProto: { fields: { domain: one(1, 'string'), version: one(2, 'int64') } },
    FunctionProto: { fields: { name: one(1, 'string'), domain: one(10, 'string') } },
    GraphProto: {
      fields: {
        node: many(1, 'NodeProto'),
        name: one(2, 'string'),
        initializer: many(5, 'TensorProto'),
        input: many(11, 'ValueInfoProto'),
        output: many(12, 'ValueInfoProto'),
        sparseInitializer: many(15, 'SparseTensorProto'),
      },
    },
    SparseTensorProto: { fields: { values: one(1, 'TensorProto') } },
    NodeProto: {
      fields: {
        input: many(1, 'string'),
        output: many(2, 'string'),
        name: one(3, 'string'),
        opType: one(4, 'string'),
        attribute: many(5, 'AttributeProto'),
        domain: one(7, 'string'),
      },
    },
    AttributeProto: {
      fields: {
        name: one(1, 'string'),
        f: one(2, 'float'),
        i: one(3, 'int64'),
        s: one(4, 'bytes'),
        t: one(5, 'TensorProto'),
        g: one(6, 'GraphProto'),
        floats: packed(7, 'float'),
        ints: packed(8, 'int64'),
        strings: many(9, 'bytes'),
        type: one(20, 'int32'),
        refAttrName: one(21, 'string'),
      },
    },
    TensorProto: {
      fields: {
        dims: packed(1, 'int64'),
        dataType: one(2, 'int32'),
        floatData: packed(4, 'float'),
        int32Data: packed(5, 'int32'),
        int64Data: packed(7, 'int64'),
        name: one(8, 'string'),
        rawData: one(9, 'bytes'),
        externalData: many(13, 'StringStringEntryProto'),
        dataLocation: one(14, 'int32'),
      },
    },
    StringStringEntryProto: { fields: { key: one(1, 'string'), value: one(2, 'string') } },
    ValueInfoProto: { fields: { name: one(1, 'string'), type: one(2, 'TypeProto') } },
    TypeProto: {
      fields: {
        tensorType: one(1, 'TensorType'),
        // Kinds of values that are refused; only whether they are there is read.
        sequenceType: one(4, 'Other'),
        mapType: one(5, 'Other'),
        sparseTensorType: one(8, 'Other'),
        optionalType: one(9, 'Other'),
      },
    },
    Other: { fields: {} },
    TensorType: { fields: { elemType: one(1, 'int32'), shape: one(2, 'TensorShapeProto') } },
    TensorShapeProto: { fields: { dim: many(1, 'Dimension') } },
    Dimension: {
      oneofs: { value: { oneof: ['dimValue', 'dimParam'] } },
      fields: { dimValue: one(1, 'int64'), dimParam: one(2, 'string') },
    },
  },
};

const root = protobuf.Root.fromJSON(schema);

/** An int64 as the decoder gives it. */
export interface Int64 {
  toNumber(): number;
  readonly low: number;
  readonly high: number;
}

/** A message of which only the presence matters. */
type Present = object;

export interface ModelProto {
  readonly irVersion: Int64;
  readonly graph: GraphProto | null;
  readonly opsetImport: readonly { readonly domain: string; readonly version: Int64 }[];
  readonly functions: readonly { readonly name: string; readonly domain: string }[];
}

export interface GraphProto {
  readonly node: readonly NodeProto[];
  readonly name: string;
  readonly initializer: readonly TensorProto[];
  readonly input: readonly ValueInfoProto[];
  readonly output: readonly ValueInfoProto[];
  readonly sparseInitializer: readonly { readonly values: TensorProto | null }[];
}

export interface NodeProto {
  readonly input: readonly string[];
  readonly output: readonly string[];
  readonly name: string;
  readonly opType: string;
  readonly attribute: readonly AttributeProto[];
  readonly domain: string;
}

export interface AttributeProto {
  readonly name: string;
  readonly f: number;
  readonly i: Int64;
  readonly s: Uint8Array;
  readonly t: TensorProto | null;
  readonly g: GraphProto | null;
  readonly floats: readonly number[];
  readonly ints: readonly Int64[];
  readonly strings: readonly Uint8Array[];
  readonly type: number;
  readonly refAttrName: string;
}

export interface TensorProto {
  readonly dims: readonly Int64[];
  readonly dataType: number;
  readonly floatData: readonly number[];
  readonly int32Data: readonly number[];
  readonly int64Data: readonly Int64[];
  readonly name: string;
  readonly rawData: Uint8Array;
  readonly externalData: readonly Present[];
  readonly dataLocation: number;
}

export interface ValueInfoProto {
  readonly name: string;
  readonly type: {
    readonly tensorType: {
      readonly elemType: number;
      readonly shape: {
        readonly dim: readonly {
          readonly value?: 'dimValue' | 'dimParam';
          readonly dimValue: Int64;
          readonly dimParam: string;
        }[];
      } | null;
    } | null;
    readonly sequenceType: Present | null;
    readonly mapType: Present | null;
    readonly sparseTensorType: Present | null;
    readonly optionalType: Present | null;
  } | null;
}

/** Decodes a message; throws whatever the decoder throws on malformed bytes. */
export const decodeModel = (bytes: Uint8Array): ModelProto =>
  root.lookupType('ModelProto').decode(bytes) as unknown as ModelProto;

/** Decodes a lone tensor, as test data files hold it. */
export const decodeTensor = (bytes: Uint8Array): TensorProto =>
  root.lookupType('TensorProto').decode(bytes) as unknown as TensorProto;

/** Encodes a message given as plain fields; see writer.ts. */
const encode = (message: string, fields: object): Uint8Array => {
  const type = root.lookupType(message);
  return type.encode(type.fromObject(fields)).finish();
};

/** A field of bytes, as its tag, its length and the parts of its content. */
const field = (id: number, content: readonly Uint8Array[]): Uint8Array[] => [
  varint((id << 3) | 2),
  varint(content.reduce((n, part) => n + part.length, 0)),
  ...content,
];

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return Uint8Array.from([...bytes, value]);
}

/**
 * A model with these initializers besides those of its graph. Their data, which may be most of a gigabyte, is copied once, where protobufjs
 * would copy it for each message around it.
 */
export function encodeModelOf(
  model: object,
  graph: object,
  initializers: readonly { readonly rawData: Uint8Array }[],
): Uint8Array {
  const tensors = initializers.flatMap(({ rawData, ...rest }) =>
    field(5, [encodeTensor(rest), ...field(9, [rawData])]),
  );
  return Buffer.concat([encode('ModelProto', model), ...field(7, [encode('GraphProto', graph), ...tensors])]);
}

export const encodeModel = (model: object): Uint8Array => encode('ModelProto', model);
export const encodeTensor = (tensor: object): Uint8Array => encode('TensorProto', tensor);
