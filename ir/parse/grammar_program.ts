/**
 * @file The grammar of programs, and of files: kernels, modules and programs in any order.
 */
import type { IToken } from 'chevrotain';
import type {
  FileItem,
  ModelItem,
  Name,
  ProgramAst,
  ProgramItem,
  RangeAst,
  SlotAst,
  WiderAst,
} from './ast.ts';
import { nameOf, type Rule, spanOf } from './grammar.ts';
import { ModuleGrammar } from './grammar_module.ts';
import { Identifier, k, p, Symbol_, Text, Value } from './lexer.ts';

export class Grammar extends ModuleGrammar {
  constructor() {
    super();
    this.performSelfAnalysis();
  }

  readonly file: Rule<(FileItem | undefined)[]> = this.RULE('file', () => {
    const items: (FileItem | undefined)[] = [];
    this.MANY(() =>
      this.OR([
        { ALT: () => void items.push(this.SUBRULE(this.kernel)) },
        { ALT: () => void items.push(this.SUBRULE(this.module)) },
        { ALT: () => void items.push(this.SUBRULE(this.program)) },
      ]),
    );
    return items;
  });

  protected readonly program: Rule<ProgramAst | undefined> = this.RULE('program', () =>
    this.whole((): ProgramAst => {
      this.CONSUME(k.program);
      this.CONSUME(k.target);
      const target = nameOf(this.CONSUME(Identifier));
      const items: ProgramItem[] = [];
      this.CONSUME(p.LeftBrace);
      this.MANY(() => void items.push(this.SUBRULE(this.programItem)));
      this.CONSUME(p.RightBrace);
      return { kind: 'program', target, items };
    }),
  );

  protected readonly programItem: Rule<ProgramItem> = this.RULE('programItem', () =>
    this.OR([
      { ALT: () => this.SUBRULE(this.classItem) },
      { ALT: () => this.SUBRULE(this.model) },
      {
        ALT: (): ProgramItem => {
          this.CONSUME(k.tenant);
          const name = nameOf(this.CONSUME(Text));
          this.CONSUME(p.Equals);
          this.CONSUME(k.model);
          return { kind: 'tenant', name, model: this.SUBRULE(this.count) };
        },
      },
      { ALT: () => this.SUBRULE(this.word) },
    ]),
  );

  protected readonly classItem: Rule<ProgramItem> = this.RULE('class', (): ProgramItem => {
    this.CONSUME(k.class);
    const name = nameOf(this.CONSUME(Symbol_));
    const tier = this.SUBRULE(this.tier);
    const sizes = this.OPTION(() => {
      const names: Name[] = [];
      this.CONSUME(k.sizes);
      this.CONSUME(p.LeftParen);
      this.MANY_SEP({ SEP: p.Comma, DEF: () => void names.push(this.SUBRULE(this.indexName)) });
      this.CONSUME(p.RightParen);
      return names;
    });
    return { kind: 'class', name, tier, ...(sizes && { sizes }), kernel: this.SUBRULE(this.kernel)! };
  });

  protected readonly tier: Rule<Name> = this.RULE('tier', () =>
    nameOf(
      this.OR([{ ALT: () => this.CONSUME(k.generic) }, { ALT: () => this.CONSUME(k.specialised) }]) as IToken,
    ),
  );

  protected readonly model: Rule<ProgramItem> = this.RULE('model', (): ProgramItem => {
    this.CONSUME(k.model);
    const number = this.SUBRULE(this.count);
    const name = nameOf(this.CONSUME(Text));
    this.CONSUME(k.weights);
    const weightBytes = this.SUBRULE2(this.count);
    this.CONSUME(k.arena);
    const arenaBytes = this.SUBRULE3(this.count);
    const items: ModelItem[] = [];
    this.CONSUME(p.LeftBrace);
    this.MANY(() => void items.push(this.SUBRULE(this.modelItem)));
    this.CONSUME(p.RightBrace);
    return { kind: 'model', number, name, weightBytes, arenaBytes, items };
  });

  protected readonly modelItem: Rule<ModelItem> = this.RULE('modelItem', () =>
    this.OR([
      { ALT: () => this.SUBRULE(this.port) },
      {
        ALT: (): ModelItem => {
          this.CONSUME(k.constant);
          const name = nameOf(this.CONSUME(Value));
          this.CONSUME(p.Colon);
          const type = this.SUBRULE(this.type);
          const range = this.SUBRULE(this.place);
          return { kind: 'constant', value: { name, type }, range, data: this.SUBRULE(this.data) };
        },
      },
      {
        ALT: (): ModelItem => {
          this.CONSUME(k.value);
          const name = nameOf(this.CONSUME2(Value));
          return { kind: 'value', name, range: this.SUBRULE2(this.place) };
        },
      },
      { ALT: () => this.SUBRULE(this.task) },
    ]),
  );

  protected readonly port: Rule<ModelItem> = this.RULE('port', (): ModelItem => {
    const way = this.OR([
      { ALT: () => this.CONSUME(k.input).image as 'input' },
      { ALT: () => this.CONSUME(k.output).image as 'output' },
    ]);
    const port = this.SUBRULE(this.typedText);
    this.CONSUME(p.Equals);
    return { kind: 'port', way, port, value: nameOf(this.CONSUME(Value)) };
  });

  /** `at 256..512` */
  protected readonly place: Rule<RangeAst> = this.RULE('place', () => {
    this.CONSUME(k.at);
    return this.SUBRULE(this.range);
  });

  protected readonly range: Rule<RangeAst> = this.RULE('range', () => {
    const first = this.LA(1);
    const from = this.SUBRULE(this.count);
    this.CONSUME(p.Dots);
    const to = this.SUBRULE2(this.count);
    return { from: from?.value, to: to?.value, span: spanOf(first) };
  });

  protected readonly values: Rule<Name[]> = this.RULE('values', () => {
    const values: Name[] = [];
    this.CONSUME(p.LeftParen);
    this.MANY_SEP({ SEP: p.Comma, DEF: () => void values.push(nameOf(this.CONSUME(Value))) });
    this.CONSUME(p.RightParen);
    return values;
  });

  protected readonly task: Rule<ModelItem> = this.RULE('task', (): ModelItem => {
    const first = this.CONSUME(k.task);
    const number = this.SUBRULE(this.count);
    const name = nameOf(this.CONSUME(Text));
    const kernelClass = nameOf(this.CONSUME(Symbol_));
    const sizes: number[] = [];
    this.OPTION(() => {
      this.CONSUME(k.sizes);
      this.CONSUME(p.LeftParen);
      this.MANY_SEP({ SEP: p.Comma, DEF: () => void sizes.push(this.SUBRULE2(this.count)?.value) });
      this.CONSUME(p.RightParen);
    });
    this.CONSUME(k.blocks);
    const blocks = this.SUBRULE3(this.count);
    const inputs = this.SUBRULE(this.values);
    this.CONSUME(p.Arrow);
    const outputs = this.SUBRULE2(this.values);
    const scratch =
      this.OPTION2(() => {
        this.CONSUME(k.scratch);
        return this.SUBRULE3(this.values);
      }) ?? [];
    const wider: WiderAst[] = [];
    this.MANY(() => void wider.push(this.SUBRULE(this.wider)));
    const loc = this.SUBRULE(this.loc);
    return {
      kind: 'task',
      number,
      name,
      kernelClass,
      sizes,
      blocks,
      inputs,
      outputs,
      scratch,
      wider,
      loc,
      span: spanOf(first),
    };
  });

  protected readonly wider: Rule<WiderAst> = this.RULE('wider', () => {
    this.CONSUME(k.from);
    const from = this.SUBRULE(this.count);
    const kernelClass = nameOf(this.CONSUME(Symbol_));
    this.CONSUME(k.blocks);
    const blocks = this.SUBRULE2(this.count);
    const scratch =
      this.OPTION(() => {
        this.CONSUME(k.scratch);
        return this.SUBRULE(this.values);
      }) ?? [];
    return { from: from?.value, kernelClass, blocks, scratch };
  });

  protected readonly word: Rule<ProgramItem> = this.RULE('word', (): ProgramItem => {
    this.CONSUME(k.word);
    const name = nameOf(this.CONSUME(Symbol_));
    const tier = this.SUBRULE(this.tier);
    const classes: Name[] = [];
    const slots: SlotAst[] = [];
    this.CONSUME(p.LeftParen);
    this.MANY_SEP({ SEP: p.Comma, DEF: () => void classes.push(nameOf(this.CONSUME2(Symbol_))) });
    this.CONSUME(p.RightParen);
    this.CONSUME(p.LeftBrace);
    this.MANY(() => void slots.push(this.SUBRULE(this.slot)));
    this.CONSUME(p.RightBrace);
    return { kind: 'word', name, tier, classes, slots };
  });

  protected readonly slot: Rule<SlotAst> = this.RULE('slot', (): SlotAst => {
    const first = this.CONSUME(k.slot);
    const tenant = nameOf(this.CONSUME(Text));
    this.CONSUME(k.task);
    const task = this.SUBRULE(this.count);
    const kernelClass = nameOf(this.CONSUME(Symbol_));
    this.CONSUME(k.blocks);
    const blocks = this.SUBRULE2(this.count);
    this.CONSUME(k.of);
    const of = this.SUBRULE3(this.count);
    const range = this.OPTION(() => {
      this.CONSUME(k.range);
      return this.SUBRULE(this.range);
    });
    return { tenant, task, kernelClass, blocks, of, ...(range && { range }), span: spanOf(first) };
  });
}
