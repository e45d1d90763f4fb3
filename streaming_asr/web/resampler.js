// Owns the change of sample rate, for a stream: a polyphase windowed-sinc low-pass. Pure, exact under any chunking.

const ZERO_CROSSINGS = 64; // of the sinc, on each side, at the lower of the two rates: 4 ms at 16 kHz
const KAISER_BETA = 9; // 90 dB of attenuation in the stop band
// Kaiser's transition is (90 - 8) / (2.285 * 2 * 64) = 0.28 rad wide, 0.09 of the lower Nyquist frequency. All of it lies
// below: from 16 kHz, 7.3 kHz pass as they are, and nothing folds back.
const CUTOFF = 0.955; // the transition's middle, of the lower Nyquist frequency

/** Converts a stream of Float32Arrays from one sample rate to another; the output lags by the filter's half length. */
export class Resampler {
  constructor(inputRate, outputRate) {
    const divisor = gcd(inputRate, outputRate);
    this.up = outputRate / divisor;
    this.down = inputRate / divisor;
    if (this.up === this.down) return;
    // Half the filter's length, in input samples.
    this.reach = Math.ceil(ZERO_CROSSINGS * Math.max(1, inputRate / outputRate));
    this.phases = phaseFilters(this.up, this.reach, CUTOFF * Math.min(1, outputRate / inputRate));
    this.history = new Float32Array(this.reach); // the stream begins in silence
    this.phase = 0; // of the next output sample, in 1 / up of an input sample after history's sample number `reach`
  }

  /** The output samples that these input samples complete. */
  accept(samples) {
    if (this.up === this.down) return samples;
    const input = new Float32Array(this.history.length + samples.length);
    input.set(this.history);
    input.set(samples, this.history.length);

    const output = [];
    let centre = this.reach;
    let phase = this.phase;
    while (centre + Math.floor(phase / this.up) + this.reach < input.length) {
      centre += Math.floor(phase / this.up);
      phase %= this.up;
      const filter = this.phases[phase];
      const first = centre - this.reach;
      let sum = 0;
      for (let i = 0; i < filter.length; i++) sum += filter[i] * input[first + i];
      output.push(sum);
      phase += this.down;
    }
    const used = centre - this.reach;
    this.history = input.slice(used);
    this.phase = phase;
    return Float32Array.from(output);
  }
}

/** For each phase the weights of the input samples from `reach` before to `reach` after; each sums to 1. */
function phaseFilters(count, reach, cutoff) {
  const filters = [];
  for (let phase = 0; phase < count; phase++) {
    const filter = new Float64Array(2 * reach + 1);
    let sum = 0;
    for (let i = 0; i < filter.length; i++) {
      const distance = i - reach - phase / count;
      filter[i] = sinc(cutoff * distance) * kaiser(distance / (reach + 1));
      sum += filter[i];
    }
    filters.push(filter.map((weight) => weight / sum));
  }
  return filters;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** The Kaiser window over -1 to 1. */
function kaiser(x) {
  return Math.abs(x) >= 1 ? 0 : bessel0(KAISER_BETA * Math.sqrt(1 - x * x)) / bessel0(KAISER_BETA);
}

/** The modified Bessel function of the first kind, order 0, by its power series. */
function bessel0(x) {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function gcd(a, b) {
  return b === 0 ? a : gcd(b, a % b);
}
