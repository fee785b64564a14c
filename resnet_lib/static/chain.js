// A chain of residual blocks with one number for a signal: x ← act(λ·x + F(x)), where F(x) = F′·x.

// What may stand on the identity path, after the addition: the function, its derivative, and the largest value of that.
const ACTIVATIONS = {
  nothing: { act: (z) => z, slope: () => 1, most: 1 },
  relu: { act: (z) => Math.max(0, z), slope: (z) => (z > 0 ? 1 : 0), most: 1 },
  tanh: { act: Math.tanh, slope: (z) => 1 - Math.tanh(z) ** 2, most: 1 },
  sigmoid: { act: sigmoid, slope: (z) => sigmoid(z) * (1 - sigmoid(z)), most: 1 / 4 },
};

function sigmoid(z) {
  return 1 / (1 + Math.exp(-z));
}

// ∂x_ℓ/∂x₀ for ℓ = 0, …, blocks by the chain rule, along the signal that starts at x₀ = 1.
export function derivatives({ blocks, scale, branch, path }) {
  const { act, slope } = ACTIVATIONS[path];
  const products = [1];
  for (let x = 1, block = 0; block < blocks; block++) {
    const z = scale * x + branch * x;
    products.push(products.at(-1) * slope(z) * (scale + branch));
    x = act(z);
  }
  return products;
}

// The same without computing the signal: (λ + F′)^ℓ, times the largest derivative of what stands on the path. Exact
// where nothing or an open ReLU does, otherwise a bound on the magnitude.
export function closedForm({ blocks, scale, branch, path }) {
  const factor = (scale + branch) * ACTIVATIONS[path].most;
  const shut = path === "relu" && factor <= 0;
  return Array.from({ length: blocks + 1 }, (_, block) => (shut && block > 0 ? 0 : factor ** block));
}

export const isExact = (path) => path === "nothing" || path === "relu";
