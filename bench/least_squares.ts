/**
 * @file Least squares of a few unknowns, by the method of Levenberg and Marquardt with differences for slopes: enough to fit an estimate's
 * constants to measurements.
 */

const squares = (of: readonly number[]): number => of.reduce((sum, r) => sum + r * r, 0);

/** How far each unknown is moved for its slope. */
const step = 1e-3;

/** The unknowns, near `start`, for which the squares of the residuals add up to least. */
export function leastSquares(
  residuals: (unknowns: readonly number[]) => number[],
  start: readonly number[],
  rounds = 60,
): number[] {
  let best = [...start];
  let at = residuals(best);
  let damping = 1;
  for (let round = 0; round < rounds && damping < 1e6; round++) {
    const slopes = best.map((x, j) => {
      const moved = residuals(best.with(j, x + step));
      return moved.map((r, i) => (r - at[i]!) / step);
    });
    const dot = (a: readonly number[], b: readonly number[]): number =>
      a.reduce((sum, x, i) => sum + x * b[i]!, 0);
    const normal = slopes.map((a) => slopes.map((b) => dot(a, b)));
    const downhill = slopes.map((a) => -dot(a, at));
    for (let better = false; !better && damping < 1e6; ) {
      const damped = normal.map((row, j) => row.with(j, row[j]! * (1 + damping) + 1e-9));
      const move = solve(damped, downhill);
      const next = best.map((x, j) => x + move[j]!);
      const there = residuals(next);
      better = squares(there) < squares(at);
      damping *= better ? 0.3 : 4;
      if (!better) continue;
      // What gains next to nothing is the end.
      if (squares(there) > (1 - 1e-5) * squares(at)) damping = Number.POSITIVE_INFINITY;
      [best, at] = [next, there];
    }
  }
  return best;
}

/** The x of matrix * x = right, for a matrix whose diagonal outweighs the rest well enough to be eliminated in order. */
function solve(matrix: readonly (readonly number[])[], right: readonly number[]): number[] {
  const rows = matrix.map((row, i) => [...row, right[i]!]);
  for (const [i, pivot] of rows.entries())
    for (const row of rows.slice(i + 1)) {
      const factor = row[i]! / pivot[i]!;
      for (let j = i; j < row.length; j++) row[j]! -= factor * pivot[j]!;
    }
  const x: number[] = new Array(rows.length).fill(0);
  for (let i = rows.length - 1; i >= 0; i--) {
    const known = x.reduce((sum, v, j) => (j > i ? sum + v * rows[i]![j]! : sum), 0);
    x[i] = (rows[i]!.at(-1)! - known) / rows[i]![i]!;
  }
  return x;
}
