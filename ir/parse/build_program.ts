/**
 * @file From the syntax of a program to the program: names of classes, models, tenants and values become what they stand for.
 */
import { classOf, type KernelClass, memberOf, openSizeNames, type Tier } from '../class.ts';
import {
  type CompiledModel,
  type Place,
  type Port,
  type Program,
  type Slot,
  type Task,
  type Tenant,
  type Variant,
  variantsOf,
  type Weight,
  type Word,
} from '../program.ts';
import { scratchOf } from '../scratch.ts';
import { workOf } from '../work.ts';
import type { ModelItem, Name, ProgramAst, ProgramItem, RangeAst, SlotAst, WiderAst } from './ast.ts';
import { buildKernel } from './build_kernel.ts';
import { buildData } from './build_module.ts';
import { type Reader, typeOf } from './build_types.ts';

type Item<K extends ProgramItem['kind']> = Extract<ProgramItem, { kind: K }>;
type ModelPart<K extends ModelItem['kind']> = Extract<ModelItem, { kind: K }>;

/** The program, or undefined if something in it was reported. */
export function buildProgram(ast: ProgramAst, reader: Reader): Program | undefined {
  return reader.whole(() => new ProgramBuilder(ast.target.text, reader).program(ast));
}

class ProgramBuilder {
  /** Classes by the name that the text gives them. */
  readonly #named = new Map<string, KernelClass>();
  readonly #classes = new Map<string, KernelClass>();
  readonly #models = new Map<number, CompiledModel>();
  /** Names of classes, and numbers of models, that something refers to. */
  readonly #usedClasses = new Set<string>();
  readonly #usedModels = new Set<number>();
  readonly #wordNames = new Set<string>();
  readonly #tenants: Tenant[] = [];
  readonly #words: Word[] = [];

  constructor(
    private readonly target: string,
    private readonly reader: Reader,
  ) {}

  program(ast: ProgramAst): Program {
    // In the order of what needs what, so that a text may have its parts in any order.
    for (const item of ast.items) if (item.kind === 'class') this.#class(item);
    for (const item of ast.items) if (item.kind === 'model') this.#model(item);
    for (const item of ast.items) if (item.kind === 'tenant') this.#tenant(item);
    for (const item of ast.items) if (item.kind === 'word') this.#word(item);
    for (const item of ast.items) this.#used(item);
    const program: Program = {
      target: this.target,
      classes: this.#classes,
      tenants: this.#tenants,
      words: this.#words,
    };
    this.reader.spans.set(program, ast.target.span);
    return program;
  }

  /** What nothing refers to would be lost in the program. */
  #used(item: ProgramItem): void {
    if (item.kind === 'class' && this.#named.has(item.name.text) && !this.#usedClasses.has(item.name.text))
      this.reader.report(item.name.span, `class @${item.name.text} is of no task and of no word`);
    if (item.kind === 'model' && !this.#usedModels.has(item.number.value))
      this.reader.report(item.number.span, `model ${item.number.value} has no tenant`);
  }

  #class({ name, tier, sizes, kernel: ast }: Item<'class'>): void {
    const kernel = buildKernel(ast, this.reader);
    if (!kernel) return;
    if (this.#named.has(name.text)) this.reader.report(name.span, `there is another class @${name.text}`);
    if (!kernel.schedule)
      return this.reader.report(ast.name.span, `the kernel of class @${name.text} has no schedule`);
    if (kernel.wider)
      return this.reader.report(ast.name.span, `class @${name.text} is code, which has one schedule`);
    const made = classOf(kernel, tier.text as Tier);
    const names = openSizeNames(made);
    if (sizes && (sizes.length !== names.length || sizes.some((s, n) => s.text !== names[n])))
      this.reader.report(name.span, `the open sizes of @${name.text} are (${names.join(', ')})`);
    const same = [...this.#named].find(([n, c]) => n !== name.text && c.key === made.key);
    if (same) this.reader.report(name.span, `class @${name.text} is the same code as @${same[0]}`);
    this.#named.set(name.text, made);
    this.#classes.set(made.key, made);
  }

  #known(name: Name): KernelClass | undefined {
    const found = this.#named.get(name.text);
    this.#usedClasses.add(name.text);
    if (!found) this.reader.report(name.span, `the program has no class @${name.text}`);
    return found;
  }

  #model(ast: Item<'model'>): void {
    const { number, name } = ast;
    if (this.#models.has(number.value))
      this.reader.report(number.span, `there is another model ${number.value}`);
    const places = new Map<string, Place>();
    const weights: Weight[] = [];
    const declare = (value: Name, space: Place['space'], { from, to, span }: RangeAst): void => {
      if (to < from) this.reader.report(span, `a place ends after it begins: ${from}..${to}`);
      if (places.has(value.text)) this.reader.report(value.span, `there is another value %${value.text}`);
      const place: Place = { value: value.text, space, offset: from, bytes: to - from };
      places.set(value.text, place);
      this.reader.spans.set(place, value.span);
    };
    for (const item of ast.items) {
      if (item.kind === 'value') declare(item.name, 'arena', item.range);
      if (item.kind === 'constant') {
        declare(item.value.name, 'weights', item.range);
        const tensor = buildData(item.data, typeOf(item.value.type, this.reader), this.reader);
        const weight = { name: item.value.name.text, offset: item.range.from, tensor };
        this.reader.spans.set(weight, item.value.name.span);
        weights.push(weight);
      }
    }
    const used = new Set<string>();
    const place = (value: Name): Place => {
      const found = places.get(value.text);
      used.add(value.text);
      if (!found) this.reader.report(value.span, `the model has no value %${value.text}`);
      return found ?? { value: value.text, space: 'arena', offset: 0, bytes: 0 };
    };
    const ports = { input: [] as Port[], output: [] as Port[] };
    const tasks: Task[] = [];
    for (const item of ast.items) {
      if (item.kind === 'port') {
        const { name: port, type } = item.port;
        const made: Port = { name: port.text, ...typeOf(type, this.reader), place: place(item.value) };
        this.reader.spans.set(made, port.span);
        ports[item.way].push(made);
      }
      if (item.kind === 'task') {
        if (item.number.value !== tasks.length)
          this.reader.report(item.number.span, `expected task ${tasks.length}: tasks are numbered in order`);
        const task = this.#task(item, place);
        if (task) tasks.push(task);
      }
    }
    for (const item of ast.items)
      if (item.kind === 'value' && !used.has(item.name.text))
        this.reader.report(item.name.span, `%${item.name.text} is of no task, input or output`);
    const model: CompiledModel = {
      name: name.text,
      target: this.target,
      inputs: ports.input,
      outputs: ports.output,
      tasks,
      weights,
      weightBytes: ast.weightBytes.value,
      arenaBytes: ast.arenaBytes.value,
    };
    this.reader.spans.set(model, name.span);
    this.#models.set(number.value, model);
  }

  #task(ast: ModelPart<'task'>, place: (value: Name) => Place): Task | undefined {
    const buffers = [...ast.inputs, ...ast.outputs].map(place);
    const first = this.#variant(ast, ast, buffers, place);
    const wider = ast.wider.map((w) => ({ ast: w, variant: this.#variant(ast, w, buffers, place) }));
    if (!first || wider.some((w) => !w.variant)) return undefined;
    const task: Task = {
      name: ast.name.text,
      ...first,
      ...(wider.length > 0 && { wider: wider.map((w) => ({ from: w.ast.from, ...w.variant! })) }),
      loc: ast.loc,
    };
    this.reader.spans.set(task, ast.span);
    return task;
  }

  /** One variant of a task, which has all but class, blocks and scratch in common with the others. */
  #variant(
    task: ModelPart<'task'>,
    ast: Pick<WiderAst, 'kernelClass' | 'blocks' | 'scratch'>,
    buffers: readonly Place[],
    place: (value: Name) => Place,
  ): Variant | undefined {
    const scratch = ast.scratch.map(place);
    const own = this.#known(ast.kernelClass);
    if (!own) return undefined;
    const { inputs, outputs } = own.kernel;
    const wrongCount = (what: string, got: number, wanted: number): void => {
      if (got !== wanted)
        this.reader.report(task.span, `@${ast.kernelClass.text} has ${wanted} ${what}, the task ${got}`);
    };
    wrongCount('inputs', task.inputs.length, inputs.length);
    wrongCount('outputs', task.outputs.length, outputs.length);
    wrongCount('scratch operands', ast.scratch.length, scratchOf(own.kernel).length);
    wrongCount('open sizes', task.sizes.length, own.sizes.values.length);
    const kernel = memberOf(own, task.sizes);
    const generic = classOf(kernel, 'generic');
    const specialised = classOf(kernel, 'specialised');
    for (const c of [generic, specialised]) if (!this.#classes.has(c.key)) this.#classes.set(c.key, c);
    return {
      classes: { generic: generic.key, specialised: specialised.key, [own.tier]: own.key },
      sizes: own.tier === 'generic' ? task.sizes : generic.sizes.values,
      blocks: ast.blocks.value,
      work: workOf(kernel),
      operands: [...buffers, ...scratch],
    };
  }

  #tenant({ name, model }: Item<'tenant'>): void {
    const found = this.#models.get(model.value);
    this.#usedModels.add(model.value);
    if (!found) return this.reader.report(model.span, `the program has no model ${model.value}`);
    const tenant: Tenant = { name: name.text, model: found };
    this.reader.spans.set(tenant, name.span);
    this.#tenants.push(tenant);
  }

  #word({ name, tier, classes: names, slots: asts }: Item<'word'>): void {
    if (this.#wordNames.has(name.text)) this.reader.report(name.span, `there is another word @${name.text}`);
    this.#wordNames.add(name.text);
    const classes = names.flatMap((n) => this.#known(n) ?? []);
    for (const [n, c] of classes.entries()) {
      if (c.tier !== tier.text)
        this.reader.report(names[n]!.span, `class @${names[n]!.text} is ${c.tier}, the word ${tier.text}`);
    }
    const slots = asts.flatMap((s) => this.#slot(s, tier.text as Tier, names) ?? []);
    const word: Word = { tier: tier.text as Tier, classes: classes.map((c) => c.key), slots };
    this.reader.spans.set(word, name.span);
    this.#words.push(word);
  }

  #slot(ast: SlotAst, tier: Tier, classes: readonly Name[]): Slot | undefined {
    const tenant = this.#tenants.findIndex((t) => t.name === ast.tenant.text);
    if (tenant < 0) {
      this.reader.report(ast.tenant.span, `the program has no tenant "${ast.tenant.text}"`);
      return undefined;
    }
    const task = this.#tenants[tenant]!.model.tasks[ast.task.value];
    if (!task) {
      this.reader.report(ast.task.span, `tenant "${ast.tenant.text}" has no task ${ast.task.value}`);
      return undefined;
    }
    const body = classes.findIndex((c) => c.text === ast.kernelClass.text);
    if (body < 0)
      this.reader.report(ast.kernelClass.span, `the word does not list class @${ast.kernelClass.text}`);
    const key = this.#named.get(ast.kernelClass.text)?.key;
    // If it is none of the task's, that is for the verifier to say.
    const { blocks } = variantsOf(task).find((v) => v.classes[tier] === key) ?? task;
    if (ast.of.value !== blocks)
      this.reader.report(ast.of.span, `task ${ast.task.value} has ${blocks} blocks, not ${ast.of.value}`);
    const range = ast.range && { from: ast.range.from, to: ast.range.to };
    const slot: Slot = {
      tenant,
      task: ast.task.value,
      body,
      blocks: ast.blocks.value,
      ...(range && { range }),
    };
    this.reader.spans.set(slot, ast.span);
    return slot;
  }
}
