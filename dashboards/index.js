// The index: two studies held against each other.
(() => {
  const { all, kept, write } = page;
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = (values) => {
    const middle = mean(values);
    return values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1);
  };

  // ---- Student's t: its tail is a regularized incomplete beta function (continued fraction, modified Lentz)
  function logGamma(x) { // Lanczos, g = 7
    const c = [0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
      12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7];
    const t = x + 6.5;
    const sum = c.slice(1).reduce((total, value, i) => total + value / (x + i), c[0]);
    return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum);
  }

  function incompleteBeta(x, a, b) {
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
    const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x)) / a;
    const apart = (value) => (Math.abs(value) < 1e-300 ? 1e-300 : value);
    let c = 1, d = 1 / apart(1 - (a + b) * x / (a + 1)), result = d;
    for (let m = 1; m < 1000; m++) {
      const even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
      d = 1 / apart(1 + even * d);
      c = apart(1 + even / c);
      result *= d * c;
      const odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
      d = 1 / apart(1 + odd * d);
      c = apart(1 + odd / c);
      result *= d * c;
      if (Math.abs(d * c - 1) < 1e-14) break;
    }
    return front * result;
  }

  function tQuantile(freedom) { // two-sided 95 %
    let [low, high] = [1.9, 13];
    for (let step = 0; step < 60; step++) {
      const t = (low + high) / 2;
      if (incompleteBeta(freedom / (freedom + t * t), freedom / 2, 0.5) > 0.05) low = t; else high = t;
    }
    return high;
  }

  // ---- one comparison: paired where replicates (or seeds) are the same, Welch where they are not
  function difference([unitsA, gainsA], [unitsB, gainsB]) {
    const paired = unitsA.join() === unitsB.join();
    const middle = mean(gainsB) - mean(gainsA);
    let error, freedom;
    if (paired) {
      error = Math.sqrt(variance(gainsB.map((gain, i) => gain - gainsA[i])) / gainsA.length);
      freedom = gainsA.length - 1;
    } else {
      const [a, b] = [variance(gainsA) / gainsA.length, variance(gainsB) / gainsB.length];
      error = Math.sqrt(a + b);
      freedom = (a + b) ** 2 / (a ** 2 / (gainsA.length - 1) + b ** 2 / (gainsB.length - 1));
    }
    const reach = error ? tQuantile(freedom) * error : 0;
    return {
      middle, low: middle - reach, high: middle + reach,
      interval: paired ? "paired" : "Welch",
      n: paired ? `${gainsA.length} pairs` : `${gainsA.length} and ${gainsB.length}`,
    };
  }

  // ---- the table
  function written(gain, plain) { // of fractions in points
    const text = plain ? Math.abs(gain).toPrecision(4) : Math.abs(gain * 100).toFixed(2);
    return Number(text) === 0 ? "0.00" : (gain > 0 ? "+" : "−") + text;
  }

  function cell(tag, text, value, name = "") {
    const made = Object.assign(document.createElement(tag), { textContent: text, className: name });
    if (tag === "th") made.scope = "row";
    if (value !== undefined) made.dataset.v = Number(value.toPrecision(10));
    return made;
  }

  function row(key, first, second, plain) {
    const found = difference(first, second);
    const apart = found.low > 0 || found.high < 0 ? "num apart" : "num";
    const made = document.createElement("tr");
    made.append(cell("th", key[0]), ...key.slice(1).map((text) => cell("td", text)));
    for (const value of [mean(first[1]), mean(second[1])]) made.append(cell("td", written(value, plain), value, "num"));
    for (const value of [found.middle, found.low, found.high]) made.append(cell("td", written(value, plain), value, apart));
    made.append(cell("td", found.interval), cell("td", found.n));
    return made;
  }

  function startComparing(form) {
    const { keys, studies, plain } = JSON.parse(document.getElementById("gains").textContent);
    const names = Object.keys(studies);
    const shared = (a, b) => keys.flatMap((key, index) => (a !== b && index in studies[a] && index in studies[b] ? [index] : []));
    const [a, b] = [form.elements.a, form.elements.b];
    const show = () => {
      const common = shared(a.value, b.value);
      const rows = common.map((index) => row(keys[index], studies[a.value][index], studies[b.value][index], plain.includes(index)));
      document.querySelector("#comparison-table tbody").replaceChildren(...rows);
      const apart = rows.filter((one) => one.querySelector(".apart")).length;
      form.querySelector("output").textContent = common.length
        ? `In ${apart} of ${common.length} comparisons the interval excludes zero.`
        : a.value === b.value ? "Choose two different studies." : "These two have no comparison in common.";
    };
    const partner = (one) => names // the one it has most in common with
      .reduce((best, other) => (shared(one, other).length > shared(one, best).length ? other : best), one);
    form.addEventListener("input", (event) => {
      if (event.target === a && !shared(a.value, b.value).length) b.value = partner(a.value);
      show();       write("compare", { a: a.value, b: b.value });
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    kept.push({
      place: "compare",
      restore(query) {
        a.value = names.includes(query.get("a")) ? query.get("a") : names[0];
        b.value = names.includes(query.get("b")) ? query.get("b") : partner(a.value);
        show();
      },
    });
    a.value = names[0];
    b.value = partner(names[0]);
    show();
  }

  document.addEventListener("DOMContentLoaded", () => {
    all("#pair").forEach(startComparing);
    page.start(() => {});
  });
})();
