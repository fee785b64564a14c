// Learning rates by epoch: what `resnet_lib/schedules.py` and `Recipe.learning_rate` say, with one update an epoch.

const between = (start, end, share) => end + ((start - end) * (1 + Math.cos(Math.PI * share))) / 2;

// Each as a share of the peak, at an epoch counted from 0.
const SHAPES = {
  constant: () => 1,
  multi_step: (epoch, epochs, { milestones, factor }) => factor ** milestones.filter((drop) => epoch >= drop).length,
  cosine: (epoch, epochs) => between(1, 0, epoch / epochs),
  one_cycle: (epoch, epochs) => {
    const peak = 0.3 * epochs - 1,
      last = epochs - 1;
    return epoch <= peak ? between(1 / 25, 1, epoch / peak) : between(1, 1e-4 / 25, (epoch - peak) / (last - peak));
  },
  linear: (epoch, epochs) => 1 - epoch / epochs,
};

export function rates(setting, epochs) {
  const { schedule, peak_lr, warmup_epochs } = setting;
  const warmUp = (epoch) => (epoch >= warmup_epochs ? 1 : 0.1 + (0.9 * epoch) / warmup_epochs);
  const rate = (epoch) => peak_lr * SHAPES[schedule](epoch, epochs, setting) * warmUp(epoch);
  return Array.from({ length: epochs }, (_, epoch) => rate(epoch));
}

export const sum = (values) => values.reduce((total, value) => total + value, 0);

// How many epochs have at least this rate; 0.1 · 0.1 is a little more than 0.01 in a computer, and counts as 0.01.
export const epochsAt = (values, least) => values.filter((value) => value >= least * (1 - 1e-9)).length;
