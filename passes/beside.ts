/**
 * @file Words that run beside others: those of one slot run under the schedule for that (`from 1` in ir/kernel.ts), on all of its blocks.
 */
import { type Tenant, variantFor, type Word } from '../ir/program.ts';

/** @param hasCompany of a tenant, whether others run beside its words. Default: of all. */
export function beside(
  tenants: readonly Tenant[],
  words: readonly Word[],
  hasCompany: (tenant: number) => boolean = () => true,
): Word[] {
  return words.map((word) => {
    const [slot, ...others] = word.slots;
    // What was cut goes on as it began, and what shares its word has the variant for that.
    if (!slot || others.length > 0 || slot.range || !hasCompany(slot.tenant)) return word;
    const { classes, blocks } = variantFor(tenants[slot.tenant]!.model.tasks[slot.task]!, 1, true);
    return { ...word, classes: [classes[word.tier]], slots: [{ ...slot, body: 0, blocks }] };
  });
}
