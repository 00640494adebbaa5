/**
 * @file LSTM, GRU and RNN, unrolled over time. What does not depend on the state, the products with the inputs, is
 * computed for all steps at once.
 */
import { toNumbers } from '../../ir/tensor.ts';
import type { NodeView } from '../node_view.ts';
import type { Expander, Expansion, ExpansionFamily } from './expander.ts';

/** More steps than this would make a program that nobody wants to compile. */
const maxSteps = 512;

/** One direction's state: h, and the cell of an LSTM. */
type State = readonly string[];

interface Cell {
  /** How many gates the weights hold. */
  readonly gates: number;
  readonly activations: readonly string[];
  /** How many values the state has. */
  readonly states: number;
  /** The next state from the gates' input part (with W's bias) and the state. */
  step(make: Expander, weights: Weights, input: string, state: State): State;
}

/** R transposed, and R's bias; `part` cuts a gate out of something whose last dimension is the gates. */
interface Weights {
  readonly recurrent: string;
  readonly bias: string | undefined;
  readonly hidden: number;
  readonly linearBeforeReset: boolean;
}

const gate = (make: Expander, x: string, g: number, hidden: number): string =>
  make.slice(x, make.shape(x).length - 1, g * hidden, (g + 1) * hidden);

/** h R^T + bias, all gates at once. */
function recurrence(make: Expander, { recurrent, bias }: Weights, h: string): string {
  const product = make.matmul(h, recurrent);
  return bias ? make.add(product, bias) : product;
}

const rnnCell: Cell = {
  gates: 1,
  activations: ['Tanh'],
  states: 1,
  step: (make, weights, input, [h]) => [make.op('Tanh', [make.add(input, recurrence(make, weights, h!))])],
};

/** Gates in ONNX's order: input, output, forget, cell. */
const lstmCell: Cell = {
  gates: 4,
  activations: ['Sigmoid', 'Tanh', 'Tanh'],
  states: 2,
  step(make, weights, input, [h, c]) {
    const all = make.add(input, recurrence(make, weights, h!));
    const part = (g: number, f: string): string => make.op(f, [gate(make, all, g, weights.hidden)]);
    const [i, o, f, candidate] = [
      part(0, 'Sigmoid'),
      part(1, 'Sigmoid'),
      part(2, 'Sigmoid'),
      part(3, 'Tanh'),
    ];
    const next = make.add(make.mul(f, c!), make.mul(i, candidate));
    return [make.mul(o, make.op('Tanh', [next])), next];
  },
};

/** Gates in ONNX's order: update, reset, hidden. */
const gruCell: Cell = {
  gates: 3,
  activations: ['Sigmoid', 'Tanh'],
  states: 1,
  step(make, weights, input, [h]) {
    const { hidden, recurrent, bias } = weights;
    const all = recurrence(make, weights, h!);
    const joined = (g: number): string => make.add(gate(make, input, g, hidden), gate(make, all, g, hidden));
    const z = make.op('Sigmoid', [joined(0)]);
    const r = make.op('Sigmoid', [joined(1)]);
    let inner: string;
    if (weights.linearBeforeReset) inner = make.mul(r, gate(make, all, 2, hidden));
    else {
      inner = make.matmul(make.mul(r, h!), gate(make, recurrent, 2, hidden));
      if (bias) inner = make.add(inner, gate(make, bias, 2, hidden));
    }
    const candidate = make.op('Tanh', [make.add(gate(make, input, 2, hidden), inner)]);
    // (1 - z) candidate + z h, with one product less
    return [make.add(candidate, make.mul(z, make.sub(h!, candidate)))];
  },
};

const recurrent =
  (cell: Cell): Expansion =>
  (node, make) => {
    const { directions, hidden } = check(node, cell);
    const [steps, batch] = node.shape(0) as [number, number, number];
    const known = node.has(4) ? node.constant(4) : undefined;
    const lengths = node.has(4) && !known ? node.input(4) : undefined;
    const full = !known || toNumbers(known).every((n) => n === steps);
    const masked = lengths ?? (full ? undefined : node.input(4));
    node.require(!masked || directions[0] === 'forward', 'sequence_lens with a reverse direction');

    const perDirection = directions.map((direction, d) => {
      const part = (i: number): string => make.squeeze(make.slice(node.input(i), 0, d, d + 1), 0);
      const width = cell.gates * hidden;
      const bias = node.has(3) ? part(3) : undefined;
      const flat = make.reshape(node.input(0), [steps * batch, -1]);
      const product = make.matmul(flat, make.transpose(part(1), [1, 0]));
      const shifted = bias ? make.add(product, make.slice(bias, 0, 0, width)) : product;
      const inputs = make.reshape(shifted, [steps, batch, width]);
      const weights: Weights = {
        recurrent: make.transpose(part(2), [1, 0]),
        bias: bias && make.slice(bias, 0, width, 2 * width),
        hidden,
        linearBeforeReset: node.int('linear_before_reset', 0) !== 0,
      };
      let state: State = Array.from({ length: cell.states }, (_, s) => {
        if (node.has(5 + s)) return part(5 + s);
        return make.op('Expand', [make.like(node.input(0), 0), make.ints(batch, hidden)]);
      });
      const outputs = new Array<string>(steps);
      for (let n = 0; n < steps; n++) {
        const t = direction === 'reverse' ? steps - 1 - n : n;
        const input = make.squeeze(make.slice(inputs, 0, t, t + 1), 0);
        let next = cell.step(make, weights, input, state);
        let visible = next[0]!;
        if (masked) {
          // A sequence that has ended keeps its state and gives zeros.
          const going = make.unsqueeze(make.op('Greater', [masked, make.like(masked, t)]), 1);
          visible = make.where(going, visible, make.like(visible, 0));
          const before = state;
          next = next.map((value, s) => make.where(going, value, before[s]!));
        }
        state = next;
        outputs[t] = make.unsqueeze(visible, 0, 1);
      }
      return { sequence: make.concat(outputs, 0), state };
    });
    const lasts = Array.from({ length: cell.states }, (_, s) =>
      make.concat(
        perDirection.map(({ state }) => make.unsqueeze(state[s]!, 0)),
        0,
      ),
    );
    return [
      make.concat(
        perDirection.map((d) => d.sequence),
        1,
      ),
      ...lasts,
    ];
  };

/** Refuses what is not supported; gives the directions in the weights' order. */
function check(node: NodeView, cell: Cell): { directions: readonly string[]; hidden: number } {
  const direction = node.string('direction', 'forward');
  node.require(['forward', 'reverse', 'bidirectional'].includes(direction), `direction ${direction}`);
  const directions = direction === 'bidirectional' ? ['forward', 'reverse'] : [direction];
  const given = node.strings('activations') ?? [];
  const usual = directions.flatMap(() => cell.activations);
  node.require(given.length === 0 || given.join() === usual.join(), `activations ${given}`);
  node.require(node.float('clip', 0) === 0, 'clip');
  node.require(node.int('layout', 0) === 0, 'layout 1');
  node.require(node.int('input_forget', 0) === 0, 'input_forget');
  node.ignore('activation_alpha', 'activation_beta', 'output_sequence', 'linear_before_reset');
  node.require(!node.has(5 + cell.states), 'peepholes');
  const x = node.shape(0);
  const r = node.shape(2);
  const hidden = node.int('hidden_size', r[2] ?? 0);
  node.require(x.length === 3 && r.length === 3 && r[0] === directions.length, `shapes [${x}] and [${r}]`);
  node.require(
    r[2] === hidden && r[1] === cell.gates * hidden,
    `recurrent weights [${r}] for ${hidden} units`,
  );
  node.require(x[0]! >= 1 && x[0]! <= maxSteps, `${x[0]} steps; at most ${maxSteps} are unrolled`);
  node.require(node.type(0).dtype === node.type(2).dtype, 'inputs and weights of unlike types');
  return { directions, hidden };
}

export const recurrentOps: ExpansionFamily = {
  RNN: recurrent(rnnCell),
  LSTM: recurrent(lstmCell),
  GRU: recurrent(gruCell),
};
