/**
 * @file The grammar of modules.
 */
import type { DataAst, Literal, ModuleAst, ModuleItem, Name, TypedName } from './ast.ts';
import { KernelGrammar, nameOf, type Rule, spanOf } from './grammar.ts';
import { k, p, Text } from './lexer.ts';

export class ModuleGrammar extends KernelGrammar {
  readonly module: Rule<ModuleAst | undefined> = this.RULE('module', () =>
    this.whole((): ModuleAst => {
      this.CONSUME(k.module);
      const name = this.CONSUME(Text);
      const items: ModuleItem[] = [];
      this.CONSUME(p.LeftBrace);
      this.MANY(() => void items.push(this.SUBRULE(this.moduleItem)));
      this.CONSUME(p.RightBrace);
      return { kind: 'module', name: nameOf(name), items };
    }),
  );

  protected readonly moduleItem: Rule<ModuleItem> = this.RULE('moduleItem', () =>
    this.OR([
      {
        ALT: (): ModuleItem => {
          this.CONSUME(k.input);
          return { kind: 'input', value: this.SUBRULE(this.typedText) };
        },
      },
      {
        ALT: (): ModuleItem => {
          this.CONSUME(k.constant);
          const value = this.SUBRULE2(this.typedText);
          return { kind: 'constant', value, data: this.SUBRULE(this.data) };
        },
      },
      {
        ALT: (): ModuleItem => {
          this.CONSUME(k.output);
          const name = nameOf(this.CONSUME(Text));
          this.CONSUME(p.Equals);
          return { kind: 'output', name, value: this.SUBRULE3(this.typedText) };
        },
      },
      { ALT: () => this.SUBRULE(this.call) },
    ]),
  );

  /** A kernel and, on the line after it, the values it is called on. */
  protected readonly call: Rule<ModuleItem> = this.RULE('call', (): ModuleItem => {
    const kernel = this.SUBRULE(this.kernel)!;
    const at = this.CONSUME(k.call);
    const inputs: Name[] = [];
    const outputs: TypedName[] = [];
    this.CONSUME(p.LeftParen);
    this.MANY_SEP({ SEP: p.Comma, DEF: () => void inputs.push(nameOf(this.CONSUME(Text))) });
    this.CONSUME(p.RightParen);
    this.CONSUME(p.Arrow);
    this.CONSUME2(p.LeftParen);
    this.MANY_SEP2({ SEP: p.Comma, DEF: () => void outputs.push(this.SUBRULE(this.typedText)) });
    this.CONSUME2(p.RightParen);
    return { kind: 'call', kernel, inputs, outputs, span: spanOf(at) };
  });

  /** `"x": f32[1,4]` */
  protected readonly typedText: Rule<TypedName> = this.RULE('typedText', () => {
    const name = nameOf(this.CONSUME(Text));
    this.CONSUME(p.Colon);
    return { name, type: this.SUBRULE(this.type) };
  });

  protected readonly data: Rule<DataAst> = this.RULE('data', () => {
    this.CONSUME(p.Equals);
    const first = this.LA(1);
    return this.OR([
      {
        ALT: (): DataAst => {
          this.CONSUME(k.elided);
          return { kind: 'elided', digest: nameOf(this.CONSUME(Text)).text, span: spanOf(first) };
        },
      },
      {
        ALT: (): DataAst => {
          const values: Literal[] = [];
          this.CONSUME(p.LeftSquare);
          this.MANY_SEP({ SEP: p.Comma, DEF: () => void values.push(this.SUBRULE(this.literal)) });
          this.CONSUME(p.RightSquare);
          return { kind: 'dense', values, span: spanOf(first) };
        },
      },
    ]);
  });
}
