/* A matrix memory that learns while it reads, in double precision, and the streams of facts that it is told.
 *
 * Equations 13 and 14 of the course, for one matrix, one token at a time:
 *
 *     u_t = 2 (M_{t-1} k_t - v_t) k_t^T             the surprise: the gradient of |M k - v|^2
 *     S_t = eta_t S_{t-1} - theta_t u_t             momentum
 *     M_t = (1 - alpha_t) M_{t-1} + S_t             memory;  the answer to q is M_t q
 *
 * Nothing here knows of the page. tests/site/test_explainer.py runs it beside titans.recurrent_scan and
 * titans.chunked_scan.
 */
(function (global) {
  "use strict";

  /** M and S, [rows, columns] row by row, both zero at first. */
  class MatrixMemory {
    constructor(rows, columns) {
      this.rows = rows;
      this.columns = columns;
      this.M = new Float64Array(rows * columns);
      this.S = new Float64Array(rows * columns);
    }

    /** The answer M q, [rows]. */
    read(q) {
      return product(this.M, q, this.rows);
    }

    /** Writes one pair, and returns |u_t|, the norm of the surprise. */
    write(k, v, { theta, eta, alpha }) {
      const answer = this.read(k);
      let square = 0;
      for (let row = 0; row < this.rows; row++) {
        const error = 2 * (answer[row] - v[row]);
        for (let column = 0; column < this.columns; column++) {
          const at = row * this.columns + column;
          const u = error * k[column];
          square += u * u;
          this.S[at] = eta * this.S[at] - theta * u;
          this.M[at] = (1 - alpha) * this.M[at] + this.S[at];
        }
      }
      return Math.sqrt(square);
    }
  }

  /** matrix [rows, columns] times vector [columns]. */
  function product(matrix, vector, rows) {
    const result = new Float64Array(rows);
    const columns = vector.length;
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) result[row] += matrix[row * columns + column] * vector[column];
    }
    return result;
  }

  /** Reads a stream from an empty memory and keeps every moment: M[p] and S[p] after p tokens, p = 0 ... n, and the
   *  surprise |u_t| of each token. gates(token, index) gives the gates of a token. */
  function trace(tokens, gates, rows, columns) {
    const memory = new MatrixMemory(rows, columns);
    const seen = { M: [memory.M.slice()], S: [memory.S.slice()], surprise: new Float64Array(tokens.length) };
    tokens.forEach((token, index) => {
      seen.surprise[index] = memory.write(token.k, token.v, gates(token, index));
      seen.M.push(memory.M.slice());
      seen.S.push(memory.S.slice());
    });
    return seen;
  }

  /** Random numbers between 0 and 1 from a seed (a Weyl sequence, well mixed), the same in every browser. */
  function uniform(seed) {
    let state = Math.imul(seed + 1, 0x9e3779b1);
    return () => {
      state = (state + 0x9e3779b9) | 0;
      let mixed = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
      mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
      return ((mixed ^ (mixed >>> 16)) >>> 0) / 4294967296;
    };
  }

  /** A vector of random direction and this length, zero outside [from, size). */
  function randomVector(random, size, length, from = 0) {
    const vector = new Float64Array(size);
    let square = 0;
    for (let i = from; i < size; i++) {
      vector[i] = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()); // Box and Muller
      square += vector[i] ** 2;
    }
    return vector.map((number) => (number * length) / Math.sqrt(square));
  }

  const DRINKS = ["tea", "coffee", "milk", "juice", "cola"];
  const ALIKE = 0.6; // of Anna's key is Ana's; both have length 1
  const FORGETTING = 0.3; // alpha while the memory is made to forget

  /* What can be read. text: "Ana:tea" is a fact, "~" noise, "." silence. gates: those it starts with. start: tokens
   * read at first. ask: who is asked. free: the gates that can be dragged. talk: columns that only noise uses. */
  const ROUND = "Ana:tea Ben:coffee Cleo:milk Dan:juice ";
  const CAST = ["Ana", "Anna", "Ben", "Cleo", "Dan", "Emi"];
  const FREE = ["theta", "eta", "alpha"];
  const STORIES = {
    day: {
      text:
        ROUND + ROUND + "~ ~ Anna:cola Anna:cola Cleo:milk ~ Ben:tea Ben:tea . . Dan:juice ~ ~ Ana:tea Ana:tea . .",
      gates: { theta: 0.2, eta: 0.5, alpha: 0.02 },
      start: 8,
      ask: "Ana",
    },
    again: {
      text: "Ben:coffee ".repeat(8),
      gates: { theta: 0.2, eta: 0, alpha: 0 },
      start: 1,
      ask: "Ben",
    },
    momentum: {
      text: "Ana:tea . . . . . . . . . . .",
      gates: { theta: 0.2, eta: 0.6, alpha: 0 },
      start: 1,
      ask: "Ana",
    },
    alike: {
      text: "Ana:tea Ben:coffee Ana:tea Ben:coffee Ana:tea Ben:coffee Anna:cola Anna:cola Anna:cola",
      gates: { theta: 0.3, eta: 0, alpha: 0 },
      start: 6,
      ask: "Ana",
    },
    lie: {
      text: "Ben:coffee Ben:coffee Ben:coffee Ben:cola! Ben:coffee Ben:coffee",
      gates: { theta: 0.3, eta: 0, alpha: 0 },
      start: 3,
      ask: "Ben",
    },
    fade: {
      text: "Cleo:milk Cleo:milk Cleo:milk " + "Ben:coffee Dan:juice ".repeat(6),
      gates: { theta: 0.3, eta: 0, alpha: 0.1 },
      start: 3,
      ask: "Cleo",
    },
    lesson01: {
      text: "Ana:tea Anna:cola ".repeat(5),
      cast: ["Ana", "Anna"],
      drinks: ["tea", "cola"],
      free: ["theta"],
      beta: true,
      gates: { theta: 0.5, eta: 0, alpha: 0 },
      start: 2,
      ask: "Ana",
    },
    lesson03: {
      text:
        "Ana:tea Ana:tea Ana:tea " +
        "Ben:coffee Cleo:milk Dan:juice ".repeat(4) +
        "Ben:tea Cleo:cola Dan:milk ".repeat(3) +
        "Ben:juice! Cleo:cola Dan:milk Ben:tea Cleo:cola Dan:milk Ben:tea",
      cast: ["Ana", "Ben", "Cleo", "Dan"],
      most: 1.1,
      gates: { theta: 0.25, eta: 0.4, alpha: 0.02 },
      start: 9,
      ask: "Ben",
    },
    lesson09: {
      text:
        ROUND.repeat(3) +
        "~ ".repeat(6) +
        "Anna:cola ".repeat(2) +
        "~ ".repeat(6) +
        "Ben:tea ".repeat(2) +
        "~ ".repeat(12),
      cast: ["Ana", "Anna", "Ben", "Cleo", "Dan"],
      talk: 2,
      gates: { theta: 0.2, eta: 0.5, alpha: 0.02 },
      start: 12,
      ask: "Ana",
    },
  };

  /** A story with its vectors: people's keys, drinks' values (the unit vectors), and the tokens of its text. */
  class Story {
    constructor(name) {
      const { text, cast = CAST, drinks = DRINKS, talk = 0, free = FREE, most = 1, ...rest } = STORIES[name];
      Object.assign(this, rest, {
        name,
        cast,
        drinks,
        talk,
        free,
        most,
        rows: drinks.length,
        columns: cast.length + talk,
      });
      this.noises = 0;
      this.tokens = text
        .trim()
        .split(/\s+/)
        .map((word) => this.token(word));
    }

    /** The key of a person, [columns]: a column of their own, but Anna's, which lies near Ana's. */
    key(person) {
      const key = new Float64Array(this.columns);
      key[this.cast.indexOf(person)] = person === "Anna" ? Math.sqrt(1 - ALIKE * ALIKE) : 1;
      if (person === "Anna") key[this.cast.indexOf("Ana")] = ALIKE;
      return key;
    }

    /** The value of a drink, [rows]. */
    value(drink) {
      const value = new Float64Array(this.rows);
      value[this.drinks.indexOf(drink)] = 1;
      return value;
    }

    /** What a word of a text says: { kind, person, drink, k, v }. */
    token(word) {
      const nothing = { k: new Float64Array(this.columns), v: new Float64Array(this.rows) };
      if (word === "~") return this.noise();
      if (word === "." || word === "forget") return { kind: word === "." ? "silence" : "forget", ...nothing };
      const [person, drink] = word.replace("!", "").split(":");
      return { kind: word.endsWith("!") ? "lie" : "fact", person, drink, k: this.key(person), v: this.value(drink) };
    }

    /** A random key and a random value, another one each time. Where a story has columns for it, the key lies there. */
    noise() {
      const random = uniform(this.noises++);
      const k = randomVector(random, this.columns, 1, this.talk ? this.cast.length : 0);
      return { kind: "noise", k, v: randomVector(random, this.rows, this.talk ? 0.4 : 0.5) };
    }
  }

  /** The gates that a token is read with: `gates`, but none from token `frozen` on, no step where nothing is told, and
   *  more forgetting where that was asked for. */
  function gatesAt(token, index, gates, frozen) {
    if (index >= frozen) return { theta: 0, eta: 0, alpha: 0 };
    const silent = token.kind === "silence" || token.kind === "forget";
    const alpha = token.kind === "forget" ? Math.max(gates.alpha, FORGETTING) : gates.alpha;
    return { theta: silent ? 0 : gates.theta, eta: gates.eta, alpha };
  }

  global.TitansMemory = { MatrixMemory, Story, FORGETTING, gatesAt, product, trace };
})(window);
