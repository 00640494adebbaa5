/**
 * @file The text as read, before names mean anything: what the grammar makes and the builders turn into IR.
 */
import type { Span } from './diagnostics.ts';

/** A name with its place; without sigil and quotes. */
export interface Name {
  readonly text: string;
  readonly span: Span;
}

export interface Count {
  readonly value: number;
  readonly span: Span;
}

/** A number as written. `bits` are those of a NaN that is not the usual one. */
export interface Literal {
  readonly text: string;
  readonly value: number;
  readonly bits?: number;
  readonly span: Span;
}

export interface TypeAst {
  readonly dtype: Name;
  readonly shape: readonly Count[];
}

export interface TypedName {
  readonly name: Name;
  readonly type: TypeAst;
}

export interface LoopAst {
  readonly name: Name;
  readonly extent: Count;
}

export interface AffineAst {
  readonly terms: readonly { readonly coeff: number; readonly atom?: AtomAst }[];
  readonly span: Span;
}

export type AtomAst =
  | { readonly kind: 'index'; readonly name: Name }
  | { readonly kind: 'floordiv' | 'mod'; readonly arg: AffineAst; readonly by: Count };

export type CoordinateAst =
  | { readonly kind: 'affine'; readonly affine: AffineAst }
  | { readonly kind: 'gather'; readonly value: Name };

export type ValueAst =
  | { readonly kind: 'const'; readonly literal: Literal; readonly dtype: Name }
  | { readonly kind: 'index'; readonly affine: AffineAst; readonly dtype: Name }
  | {
      readonly kind: 'load';
      readonly buffer: Name;
      readonly at: readonly CoordinateAst[];
      readonly pad?: Literal;
      readonly dtype: Name;
    }
  | { readonly kind: 'op'; readonly op: Name; readonly args: readonly Name[]; readonly dtype: Name }
  | {
      readonly kind: 'reduce';
      readonly combine: Name;
      readonly dtype: Name;
      readonly over: readonly LoopAst[];
      readonly body: readonly StatementAst[];
      readonly end: Span;
    };

export type StatementAst =
  | { readonly kind: 'let'; readonly name: Name; readonly value: ValueAst; readonly span: Span }
  | {
      readonly kind: 'store';
      readonly buffer: Name;
      readonly at: readonly AffineAst[];
      readonly value: Name;
      readonly span: Span;
    }
  | {
      readonly kind: 'for';
      readonly over: readonly LoopAst[];
      readonly body: readonly StatementAst[];
      readonly span: Span;
    }
  | { readonly kind: 'yield'; readonly value: Name; readonly span: Span };

export interface SchedulesAst {
  readonly schedule: ScheduleAst;
  readonly wider: readonly { readonly from: number; readonly schedule: ScheduleAst }[];
}

export interface ScheduleAst {
  readonly skeleton: Name;
  readonly settings: readonly { readonly name: Name; readonly sizes: readonly number[] }[];
}

export interface KernelAst {
  readonly kind: 'kernel';
  readonly name: Name;
  readonly inputs: readonly TypedName[];
  readonly outputs: readonly TypedName[];
  readonly domain: readonly LoopAst[];
  readonly body: readonly StatementAst[];
  readonly schedule?: SchedulesAst;
  readonly loc: readonly string[];
}

/** Data written out, or the digest of data left out. */
export type DataAst =
  | { readonly kind: 'dense'; readonly values: readonly Literal[]; readonly span: Span }
  | { readonly kind: 'elided'; readonly digest: string; readonly span: Span };

export type ModuleItem =
  | { readonly kind: 'input'; readonly value: TypedName }
  | { readonly kind: 'constant'; readonly value: TypedName; readonly data: DataAst }
  | { readonly kind: 'output'; readonly name: Name; readonly value: TypedName }
  | {
      readonly kind: 'call';
      readonly kernel: KernelAst;
      readonly inputs: readonly Name[];
      readonly outputs: readonly TypedName[];
      readonly span: Span;
    };

export interface ModuleAst {
  readonly kind: 'module';
  readonly name: Name;
  readonly items: readonly ModuleItem[];
}

/** Bytes `from` up to, not including, `to`. */
export interface RangeAst {
  readonly from: number;
  readonly to: number;
  readonly span: Span;
}

export type ModelItem =
  | {
      readonly kind: 'port';
      readonly way: 'input' | 'output';
      readonly port: TypedName;
      readonly value: Name;
    }
  | {
      readonly kind: 'constant';
      readonly value: TypedName;
      readonly range: RangeAst;
      readonly data: DataAst;
    }
  | { readonly kind: 'value'; readonly name: Name; readonly range: RangeAst }
  | {
      readonly kind: 'task';
      readonly number: Count;
      readonly name: Name;
      readonly kernelClass: Name;
      readonly sizes: readonly number[];
      readonly blocks: Count;
      readonly inputs: readonly Name[];
      readonly outputs: readonly Name[];
      readonly scratch: readonly Name[];
      readonly wider: readonly WiderAst[];
      readonly loc: readonly string[];
      readonly span: Span;
    };

/** A variant of a task, for words of `from` slots and more. */
export interface WiderAst {
  readonly from: number;
  readonly kernelClass: Name;
  readonly blocks: Count;
  readonly scratch: readonly Name[];
}

export interface SlotAst {
  readonly tenant: Name;
  readonly task: Count;
  readonly kernelClass: Name;
  readonly blocks: Count;
  readonly of: Count;
  readonly range?: RangeAst;
  readonly span: Span;
}

export type ProgramItem =
  | {
      readonly kind: 'class';
      readonly name: Name;
      readonly tier: Name;
      readonly sizes?: readonly Name[];
      readonly kernel: KernelAst;
    }
  | {
      readonly kind: 'model';
      readonly number: Count;
      readonly name: Name;
      readonly weightBytes: Count;
      readonly arenaBytes: Count;
      readonly items: readonly ModelItem[];
    }
  | { readonly kind: 'tenant'; readonly name: Name; readonly model: Count }
  | {
      readonly kind: 'word';
      readonly name: Name;
      readonly tier: Name;
      readonly classes: readonly Name[];
      readonly slots: readonly SlotAst[];
    };

export interface ProgramAst {
  readonly kind: 'program';
  readonly target: Name;
  readonly items: readonly ProgramItem[];
}

export type FileItem = KernelAst | ModuleAst | ProgramAst;
