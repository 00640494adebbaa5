/**
 * @file The grammar of kernels. Each rule gives a node of ast.ts. After an error the parser takes up again at the next statement,
 * kernel or item; what had an error in it gives undefined in place of a node, so that nothing is built from halves.
 */
import { EmbeddedActionsParser, type IToken, type ParserMethod } from 'chevrotain';
import { mostInt } from '../bounds.ts';
import type {
  AffineAst,
  AtomAst,
  CoordinateAst,
  Count,
  KernelAst,
  Literal,
  LoopAst,
  Name,
  ScheduleAst,
  SchedulesAst,
  StatementAst,
  TypeAst,
  TypedName,
  ValueAst,
} from './ast.ts';
import type { Diagnostic, Span } from './diagnostics.ts';
import { messages } from './expected.ts';
import { Extents, Float, Identifier, Integer, k, NanBits, p, Symbol_, Text, tokens, Value } from './lexer.ts';

// While Chevrotain records the grammar it runs each rule once without input, and a choice then gives no token.
type Token = IToken | undefined;

const textOf = (t: Token): string => t?.image ?? '';

export const spanOf = (t: Token): Span => ({
  line: t?.startLine ?? 1,
  column: t?.startColumn ?? 1,
  length: textOf(t).length,
});

/** A token as a name: without its sigil and quotes. */
export function nameOf(token: Token): Name {
  const text = textOf(token).replace(/^[%@]/, '');
  return { text: text.startsWith('"') ? unquote(text) : text, span: spanOf(token) };
}

/** JSON knows the escapes; one that it does not know stays as it is written. */
function unquote(text: string): string {
  try {
    return JSON.parse(text) as string;
  } catch {
    return text.slice(1, -1);
  }
}

export type Rule<T> = ParserMethod<[], T>;

export class KernelGrammar extends EmbeddedActionsParser {
  constructor() {
    super(tokens, { recoveryEnabled: true, maxLookahead: 3, errorMessageProvider: messages });
  }

  /** Whole numbers that are not held as they are written; for whoever gives input to clear. */
  readonly tooLarge: Diagnostic[] = [];

  /** A whole number, or several with `x` between them. */
  protected integers(token: Token, inCoordinate = false): number[] {
    const values = textOf(token).split('x').map(Number);
    const most = inCoordinate ? mostInt : Number.MAX_SAFE_INTEGER;
    if (values.some((v) => v > most)) {
      const why = inCoordinate ? 'coordinates are computed in 32 bits' : 'whole numbers are exact below 2^53';
      this.tooLarge.push({ span: spanOf(token), message: `${textOf(token)} is too large: ${why}` });
    }
    return values;
  }

  protected integer(token: Token, inCoordinate = false): number {
    return this.integers(token, inCoordinate)[0]!;
  }

  /** The node, or undefined if something in it was in error. */
  protected whole<T>(read: () => T): T | undefined {
    const before = this.errors.length;
    const node = read();
    return this.errors.length === before ? node : undefined;
  }

  readonly kernel: Rule<KernelAst | undefined> = this.RULE('kernel', () =>
    this.whole((): KernelAst => {
      this.CONSUME(k.kernel);
      const name = this.CONSUME(Symbol_);
      const inputs = this.SUBRULE(this.typedNames);
      this.CONSUME(p.Arrow);
      const outputs = this.SUBRULE2(this.typedNames);
      this.CONSUME(k.parallel);
      const domain = this.SUBRULE(this.loops);
      const body = this.SUBRULE(this.body);
      const schedule = this.OPTION(() => this.SUBRULE(this.schedules));
      const loc = this.SUBRULE(this.loc);
      return {
        kind: 'kernel',
        name: nameOf(name),
        inputs,
        outputs,
        domain,
        body,
        ...(schedule && { schedule }),
        loc,
      };
    }),
  );

  protected readonly loc: Rule<string[]> = this.RULE('loc', () => {
    const names: string[] = [];
    this.OPTION(() => {
      this.CONSUME(k.loc);
      this.CONSUME(p.LeftParen);
      this.AT_LEAST_ONE_SEP({
        SEP: p.Comma,
        DEF: () => void names.push(nameOf(this.CONSUME(Text)).text),
      });
      this.CONSUME(p.RightParen);
    });
    return names;
  });

  /** `(%x0: f32[4,9], %x1: f32[9])` */
  protected readonly typedNames: Rule<TypedName[]> = this.RULE('typedNames', () => {
    const names: TypedName[] = [];
    this.CONSUME(p.LeftParen);
    this.MANY_SEP({
      SEP: p.Comma,
      DEF: () => {
        const name = this.CONSUME(Value);
        this.CONSUME(p.Colon);
        names.push({ name: nameOf(name), type: this.SUBRULE(this.type) });
      },
    });
    this.CONSUME(p.RightParen);
    return names;
  });

  protected readonly type: Rule<TypeAst> = this.RULE('type', () => {
    const dtype = this.CONSUME(Identifier);
    const shape: Count[] = [];
    this.CONSUME(p.LeftSquare);
    this.MANY_SEP({ SEP: p.Comma, DEF: () => void shape.push(this.SUBRULE(this.count)) });
    this.CONSUME(p.RightSquare);
    return { dtype: nameOf(dtype), shape };
  });

  protected readonly count: Rule<Count> = this.RULE('count', () => {
    const token = this.CONSUME(Integer);
    return { value: this.integer(token), span: spanOf(token) };
  });

  /** A divisor of a coordinate. */
  protected readonly divisor: Rule<Count> = this.RULE('divisor', () => {
    const token = this.CONSUME(Integer);
    return { value: this.integer(token, true), span: spanOf(token) };
  });

  /** `(i: 4, j: 9)` */
  protected readonly loops: Rule<LoopAst[]> = this.RULE('loops', () => {
    const loops: LoopAst[] = [];
    this.CONSUME(p.LeftParen);
    this.MANY_SEP({
      SEP: p.Comma,
      DEF: () => {
        const name = this.SUBRULE(this.indexName);
        this.CONSUME(p.Colon);
        loops.push({ name, extent: this.SUBRULE(this.count) });
      },
    });
    this.CONSUME(p.RightParen);
    return loops;
  });

  protected readonly indexName: Rule<Name> = this.RULE('indexName', () =>
    nameOf(this.OR([{ ALT: () => this.CONSUME(Identifier) }, { ALT: () => this.CONSUME(Text) }])),
  );

  protected readonly body: Rule<StatementAst[]> = this.RULE('body', () => {
    const body: StatementAst[] = [];
    this.CONSUME(p.LeftBrace);
    this.MANY(() => void body.push(this.SUBRULE(this.statement)));
    this.CONSUME(p.RightBrace);
    return body;
  });

  protected readonly statement: Rule<StatementAst> = this.RULE('statement', () =>
    this.OR([
      { ALT: () => this.SUBRULE(this.letStatement) },
      { ALT: () => this.SUBRULE(this.store) },
      { ALT: () => this.SUBRULE(this.forStatement) },
      {
        ALT: (): StatementAst => {
          const at = this.CONSUME(k.yield);
          return { kind: 'yield', value: nameOf(this.CONSUME(Value)), span: spanOf(at) };
        },
      },
    ]),
  );

  protected readonly letStatement: Rule<StatementAst> = this.RULE('letStatement', (): StatementAst => {
    const name = this.CONSUME(Value);
    this.CONSUME(p.Equals);
    const value = this.SUBRULE(this.value);
    return { kind: 'let', name: nameOf(name), value, span: spanOf(name) };
  });

  protected readonly store: Rule<StatementAst> = this.RULE('store', (): StatementAst => {
    const first = this.CONSUME(k.store);
    const buffer = this.CONSUME(Value);
    const at: AffineAst[] = [];
    this.CONSUME(p.LeftSquare);
    this.MANY_SEP({ SEP: p.Comma, DEF: () => void at.push(this.SUBRULE(this.affine)) });
    this.CONSUME(p.RightSquare);
    this.CONSUME(p.Equals);
    const value = this.CONSUME2(Value);
    return { kind: 'store', buffer: nameOf(buffer), at, value: nameOf(value), span: spanOf(first) };
  });

  protected readonly forStatement: Rule<StatementAst> = this.RULE('forStatement', (): StatementAst => {
    const first = this.CONSUME(k.for);
    const over = this.SUBRULE(this.loops);
    return { kind: 'for', over, body: this.SUBRULE(this.body), span: spanOf(first) };
  });

  protected readonly value: Rule<ValueAst> = this.RULE('value', () =>
    this.OR([
      {
        ALT: (): ValueAst => {
          this.CONSUME(k.const);
          const literal = this.SUBRULE(this.literal);
          return { kind: 'const', literal, dtype: this.SUBRULE(this.dtype) };
        },
      },
      {
        ALT: (): ValueAst => {
          this.CONSUME(k.index);
          const affine = this.SUBRULE(this.affine);
          return { kind: 'index', affine, dtype: this.SUBRULE2(this.dtype) };
        },
      },
      { ALT: () => this.SUBRULE(this.load) },
      { ALT: () => this.SUBRULE(this.reduce) },
      { ALT: () => this.SUBRULE(this.op) },
    ]),
  );

  /** `: f32` */
  protected readonly dtype: Rule<Name> = this.RULE('dtype', () => {
    this.CONSUME(p.Colon);
    return nameOf(this.CONSUME(Identifier));
  });

  protected readonly load: Rule<ValueAst> = this.RULE('load', (): ValueAst => {
    this.CONSUME(k.load);
    const buffer = this.CONSUME(Value);
    const at: CoordinateAst[] = [];
    this.CONSUME(p.LeftSquare);
    this.MANY_SEP({
      SEP: p.Comma,
      DEF: () =>
        this.OR([
          { ALT: () => void at.push({ kind: 'gather', value: nameOf(this.CONSUME2(Value)) }) },
          { ALT: () => void at.push({ kind: 'affine', affine: this.SUBRULE(this.affine) }) },
        ]),
    });
    this.CONSUME(p.RightSquare);
    const pad = this.OPTION(() => {
      this.CONSUME(k.pad);
      return this.SUBRULE(this.literal);
    });
    return {
      kind: 'load',
      buffer: nameOf(buffer),
      at,
      ...(pad && { pad }),
      dtype: this.SUBRULE(this.dtype),
    };
  });

  protected readonly reduce: Rule<ValueAst> = this.RULE('reduce', (): ValueAst => {
    this.CONSUME(k.reduce);
    const combine = nameOf(this.CONSUME(Identifier));
    const dtype = nameOf(this.CONSUME2(Identifier));
    this.CONSUME(k.over);
    const over = this.SUBRULE(this.loops);
    const body = this.SUBRULE(this.body);
    return { kind: 'reduce', combine, dtype, over, body, end: spanOf(this.LA(0)) };
  });

  protected readonly op: Rule<ValueAst> = this.RULE('op', (): ValueAst => {
    const op = this.CONSUME(Identifier);
    const args: Name[] = [];
    this.AT_LEAST_ONE_SEP({ SEP: p.Comma, DEF: () => void args.push(nameOf(this.CONSUME(Value))) });
    return { kind: 'op', op: nameOf(op), args, dtype: this.SUBRULE(this.dtype) };
  });

  /** `oh*2 + kh - 3` */
  protected readonly affine: Rule<AffineAst> = this.RULE('affine', (): AffineAst => {
    const first = this.LA(1);
    const terms: AffineAst['terms'][number][] = [];
    let sign = 1;
    this.OPTION(() => {
      this.CONSUME(p.Minus);
      sign = -1;
    });
    const add = (term: AffineAst['terms'][number]): void =>
      void terms.push({ ...term, coeff: sign * term?.coeff });
    add(this.SUBRULE(this.term));
    this.MANY(() => {
      const token = this.OR([{ ALT: () => this.CONSUME(p.Plus) }, { ALT: () => this.CONSUME2(p.Minus) }]);
      sign = textOf(token) === '-' ? -1 : 1;
      add(this.SUBRULE2(this.term));
    });
    return { terms, span: spanOf(first) };
  });

  /** `oh*2`, `2*oh`, `oh`, `3` */
  protected readonly term: Rule<AffineAst['terms'][number]> = this.RULE('term', () =>
    this.OR([
      {
        ALT: () => {
          const coeff = this.integer(this.CONSUME(Integer), true);
          const atom = this.OPTION(() => {
            this.CONSUME(p.Star);
            return this.SUBRULE(this.atom);
          });
          return { coeff, ...(atom && { atom }) };
        },
      },
      {
        ALT: () => {
          const atom = this.SUBRULE2(this.atom);
          const coeff = this.OPTION2(() => {
            this.CONSUME2(p.Star);
            return this.integer(this.CONSUME2(Integer), true);
          });
          return { coeff: coeff ?? 1, atom };
        },
      },
    ]),
  );

  protected readonly atom: Rule<AtomAst> = this.RULE('atom', () =>
    this.OR([
      { ALT: (): AtomAst => ({ kind: 'index', name: this.SUBRULE(this.indexName) }) },
      {
        ALT: (): AtomAst => {
          this.CONSUME(p.LeftParen);
          const arg = this.SUBRULE(this.affine);
          const kind = this.OR2([
            { ALT: () => this.CONSUME(k.floordiv).image as 'floordiv' },
            { ALT: () => this.CONSUME(k.mod).image as 'mod' },
          ]);
          const by = this.SUBRULE(this.divisor);
          this.CONSUME(p.RightParen);
          return { kind, arg, by };
        },
      },
    ]),
  );

  protected readonly literal: Rule<Literal> = this.RULE('literal', () => {
    let sign = '';
    this.OPTION(() => {
      sign = this.CONSUME(p.Minus).image;
    });
    const token = this.OR([
      { ALT: () => this.CONSUME(Float) },
      { ALT: () => this.CONSUME(Integer) },
      { ALT: () => this.CONSUME(k.inf) },
      { ALT: () => this.CONSUME(k.nan) },
      { ALT: () => this.CONSUME(NanBits) },
    ]);
    const text = sign + textOf(token);
    const value = Number(text.replace('inf', 'Infinity').replace(/nan.*/, 'NaN'));
    const bits = text.includes(':') ? Number(text.slice(text.indexOf(':') + 1)) : undefined;
    return { text, value, ...(bits !== undefined && { bits }), span: spanOf(token) };
  });

  readonly schedules: Rule<SchedulesAst> = this.RULE('schedules', () => {
    this.CONSUME(k.schedule);
    const schedule = this.SUBRULE(this.schedule);
    const wider: SchedulesAst['wider'][number][] = [];
    this.MANY(() => {
      this.CONSUME(k.from);
      const from = this.CONSUME(Integer);
      wider.push({ from: this.integer(from), schedule: this.SUBRULE2(this.schedule) });
    });
    return { schedule, wider };
  });

  protected readonly schedule: Rule<ScheduleAst> = this.RULE('schedule', () => {
    const skeleton = nameOf(this.CONSUME(Identifier));
    const settings: ScheduleAst['settings'][number][] = [];
    this.CONSUME(p.LeftParen);
    this.MANY_SEP({
      SEP: p.Comma,
      DEF: () => {
        const name = nameOf(this.CONSUME2(Identifier));
        this.CONSUME(p.Colon);
        const token = this.OR([{ ALT: () => this.CONSUME(Extents) }, { ALT: () => this.CONSUME(Integer) }]);
        settings.push({ name, sizes: this.integers(token) });
      },
    });
    this.CONSUME(p.RightParen);
    return { skeleton, settings };
  });
}
