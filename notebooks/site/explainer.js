/* The memory, live: looks for <div class="titans-explainer" data-lang="en|ja" data-kind="front|small" data-lesson="01">
 * and builds itself inside. Needs memory.js, words.js and explainer.css before it; asks the network for nothing.
 *
 * What is shown is a pure function of a stream, three gates, a moment in the stream and the person who is asked. Every
 * change computes the whole stream anew (a few thousand products) and lets the picture glide there.
 */
(function () {
  "use strict";
  const { Story, gatesAt, product, trace } = window.TitansMemory;
  const WORDS = window.TitansWords;

  const SCENES = ["day", "again", "momentum", "alike", "lie", "fade"];
  const MOST_TOKENS = 120;
  const STEP_MS = 900; // between two tokens while it plays
  const GLIDE_MS = 110; // after which two thirds of a change are shown
  const SURE = 0.5,
    LIKELY = 0.2,
    HEARD = 0.1; // of the answer's lead, and of the answer itself
  const DASHES = { tea: [], coffee: [7, 3], milk: [2, 3], juice: [9, 3, 2, 3], cola: [4, 2] };
  const PAD = 11; // half a thumb: the range and the curves below it have the same scale

  /* ------------------------------------------------------------------ small helpers */

  /** An element with attributes (a `data-` or `aria-` name too, `on…` a listener) and children. */
  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value !== null) element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  /** Two digits behind the point, a true minus, never a minus before zero; fewer digits where it blew up. */
  function digits(x) {
    const size = Math.abs(x);
    const text = size < 100 ? x.toFixed(2) : size < 1e5 ? x.toFixed(0) : x.toExponential(0).replace("e+", "e");
    return text.replace(/^-(?=0\.00$)/, "").replace("-", "−");
  }

  /** A drawing in a box of 24 x `height`, for eyes only. */
  function svg(name, height, path, attributes = {}) {
    const space = "http://www.w3.org/2000/svg";
    const drawing = document.createElementNS(space, "svg"),
      line = document.createElementNS(space, "path");
    for (const [key, value] of Object.entries({ class: name, viewBox: `0 0 24 ${height}`, "aria-hidden": "true" }))
      drawing.setAttribute(key, value);
    for (const [key, value] of Object.entries({ d: path, ...attributes })) line.setAttribute(key, value);
    drawing.append(line);
    return drawing;
  }

  const ICONS = {
    restart: "M5 5h3v14H5zM20 5v14L9 12z",
    back: "M17 5v14L6 12z",
    play: "M7 4v16l13-8z",
    pause: "M6 5h4v14H6zM14 5h4v14h-4z",
    step: "M4 5v14l11-7zM16 5h3v14h-3z",
  };

  function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  const norm = (vector) => Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
  const reducedMotion = window.matchMedia("(prefers-reduced-motion: reduce)");
  let made = 0; // players on this page, for ids of their own

  /* ------------------------------------------------------------------ what is true at a moment */

  /** The stream, the gates, the moment and the person asked; everything else follows from these. */
  class Reading {
    constructor(name) {
      this.load(name);
    }

    load(name) {
      this.story = new Story(name);
      this.tokens = this.story.tokens.slice();
      this.gates = { ...this.story.gates };
      this.frozen = Infinity;
      this.position = this.story.start;
      this.asked = this.story.ask;
      this.compute();
    }

    compute() {
      const { rows, columns, gates } = this.story;
      this.seen = trace(this.tokens, (token, index) => this.gatesOf(index), rows, columns);
      const changed =
        this.frozen < this.tokens.length || this.story.free.some((gate) => gates[gate] !== this.gates[gate]);
      this.plain = changed
        ? trace(this.tokens, (token, index) => gatesAt(token, index, gates, Infinity), rows, columns)
        : null;
    }

    gatesOf(index) {
      return gatesAt(this.tokens[index], index, this.gates, this.frozen);
    }

    /** The answers for a person after `position` tokens, [drinks]. */
    answers(person = this.asked, position = this.position, seen = this.seen) {
      return product(seen.M[position], this.story.key(person), this.story.rows);
    }

    /** Every drink's answer for the asked person over the whole stream: [positions * drinks]. */
    curves(seen = this.seen) {
      const curves = new Float64Array(seen.M.length * this.story.rows);
      seen.M.forEach((_, position) =>
        curves.set(this.answers(this.asked, position, seen), position * this.story.rows),
      );
      return curves;
    }

    /** The last true drink that was told of a person up to now, a lie left out; undefined where there is none. */
    lastTold(person = this.asked) {
      return this.tokens
        .slice(0, this.position)
        .reverse()
        .find((t) => t.kind === "fact" && t.person === person)?.drink;
    }

    /** A drink that was not told last of this person: the next in the list. */
    otherDrink(person = this.asked) {
      const { drinks } = this.story;
      return drinks[(drinks.indexOf(this.lastTold(person)) + 1) % drinks.length];
    }

    /** The answer in words' numbers: the best drink, what it is answered with, its lead, and the one behind it. */
    verdict() {
      const answers = this.answers();
      const order = [...answers.keys()].sort((a, b) => answers[b] - answers[a]);
      const { drinks } = this.story;
      return {
        best: drinks[order[0]],
        value: answers[order[0]],
        second: drinks[order[1]],
        lead: answers[order[0]] - answers[order[1]],
      };
    }

    /** Puts tokens behind the present one. */
    insert(words) {
      const tokens = words.map((word) => ({ ...this.story.token(word), mine: true }));
      this.tokens.splice(this.position, 0, ...tokens);
      this.compute();
    }

    hasRoom(count) {
      return this.tokens.length + count <= MOST_TOKENS;
    }
  }

  /* ------------------------------------------------------------------ the player */

  class Player {
    constructor(host) {
      this.host = host;
      this.words = WORDS[host.dataset.lang] || WORDS.en;
      this.small = host.dataset.kind === "small";
      this.id = `tx${++made}`;
      this.reading = new Reading(this.small ? `lesson${host.dataset.lesson}` : SCENES[0]);
      this.shown = null; // what is on the screen, on its way to what is true
      this.playing = false;
      this.until = 0; // where playing ends
      this.stepMs = STEP_MS;
      this.build();
      this.colours();
      this.changed(true);
      this.watch();
    }

    /** Names as the page's language has them; lessons 01, 03 and 09 write them in Latin letters in both. */
    person(name) {
      return this.small ? name : this.words.people[name];
    }

    drink(name) {
      return this.small ? name : this.words.drinks[name];
    }

    says(person, drink) {
      return this.small ? `${person} → ${drink}` : this.words.says(this.person(person), this.drink(drink));
    }

    /* ---- building */

    build() {
      const still = make("div", { class: "tx-still" }, ...this.host.childNodes);
      this.root = make("section", {
        class: "tx",
        "aria-label": this.words.title,
        lang: this.host.dataset.lang || "en",
      });
      this.host.replaceChildren(still, this.root);
      this.host.classList.add("tx-ready");
      if (!this.small) this.root.append(this.buildScenes());
      this.body = make("div", { class: "tx-body", "data-part": "gates" });
      this.root.append(this.body, this.buildTransport());
      this.buildBody();
    }

    /** All that depends on the story: its people, drinks and gates. */
    buildBody() {
      const momentum = this.reading.story.free.includes("eta");
      this.body.replaceChildren(
        this.buildStage(),
        make(
          "div",
          { class: "tx-see" },
          (this.M = this.buildMatrix("M", this.words.memory, this.words.memoryNote)).figure,
          momentum ? (this.S = this.buildMatrix("S", this.words.momentum, this.words.momentumNote)).figure : "",
        ),
        make("div", { class: "tx-do" }, this.buildAsk(), this.buildGates()),
        this.buildParts(momentum),
        this.buildTime(),
        this.small ? "" : this.buildEvents(),
      );
      if (!momentum) this.S = null;
      this.body.classList.toggle("tx-alone", !momentum);
    }

    /** On a phone one part at a time stands below the answers, so that what is moved and what it moves are both in
     * sight: this chooses which. */
    buildParts(momentum) {
      const { gates, events, stream } = this.words;
      const names = { gates, ...(this.small ? {} : { events }), stream, ...(momentum ? { S: this.words.momentum } : {}) };
      if (!(this.body.dataset.part in names)) this.body.dataset.part = "gates";
      const parts = Object.entries(names).map(([part, name]) => {
        const onchange = () => (this.body.dataset.part = part);
        const input = make("input", { type: "radio", name: `${this.id}-part`, value: part, onchange });
        input.checked = part === this.body.dataset.part;
        return make("label", { class: "tx-part" }, input, make("span", {}, name));
      });
      return make("div", { class: "tx-parts", role: "radiogroup", "aria-label": this.words.parts }, ...parts);
    }

    buildScenes() {
      const { scenes, scene } = this.words;
      this.sceneButtons = SCENES.map((name) =>
        make(
          "button",
          { type: "button", class: "tx-scene", "data-scene": name, onclick: () => this.choose(name) },
          scene[name][0],
        ),
      );
      this.sceneText = make("p", { class: "tx-scene-text" });
      return make(
        "div",
        { class: "tx-scenes", role: "group", "aria-label": scenes },
        make("div", { class: "tx-scene-row" }, ...this.sceneButtons),
        this.sceneText,
      );
    }

    buildStage() {
      this.chips = make("div", { class: "tx-chips" });
      this.ticker = make("div", { class: "tx-ticker", "aria-hidden": "true" }, this.chips);
      this.told = make("p", { class: "tx-told" });
      return make("div", { class: "tx-stage" }, this.ticker, this.told);
    }

    /** The keys of a player, which stay at the window's lower edge while any of it is in sight. */
    buildTransport() {
      const { restart, back, play, step } = this.words;
      const button = (name, label, onclick) =>
        make(
          "button",
          { type: "button", class: "tx-icon", "aria-label": label, title: label, "data-do": name, onclick },
          svg("", 24, ICONS[name]),
        );
      this.playButton = button("play", play, () => this.togglePlay());
      this.playButton.classList.add("tx-play");
      this.place = make("span", { class: "tx-place" }, make("span", {}), make("span", {}));
      return make(
        "div",
        { class: "tx-transport" },
        button("restart", restart, () => this.seek(0)),
        button("back", back, () => this.seek(this.reading.position - 1)),
        this.playButton,
        button("step", step, () => this.seek(this.reading.position + 1)),
        this.place,
      );
    }

    /** A matrix as a table with a head for each key and each value; its fields take the colour of their number. */
    buildMatrix(letter, title, note) {
      const { cast, drinks, columns } = this.reading.story;
      const names = [
        ...cast.map((name) => this.person(name) + (name === "Anna" ? "′" : "")),
        ...Array(columns - cast.length).fill("·"),
      ];
      const cells = [];
      const head = make("tr", {}, make("td", {}), ...names.map((name) => make("th", { scope: "col" }, name)));
      const rows = drinks.map((drink) =>
        make(
          "tr",
          {},
          make("th", { scope: "row" }, this.drink(drink)),
          ...names.map(() => {
            const cell = make("td", { class: "tx-cell" });
            cells.push(cell);
            return cell;
          }),
        ),
      );
      const label = make("caption", {}, make("b", {}, title, " ", make("i", {}, letter)), make("span", {}, note));
      const table = make(
        "table",
        { class: `tx-table tx-${names.length}` },
        label,
        make("thead", {}, head),
        make("tbody", {}, ...rows),
      );
      const figure = make("div", { class: `tx-matrix tx-${letter}`, "data-matrix": letter }, table);
      if (letter === "M" && cast.includes("Anna"))
        figure.append(make("p", { class: "tx-note" }, this.words.alike(this.person("Ana"), this.person("Anna"))));
      return { figure, cells, heads: [...head.querySelectorAll("th")], rows, table };
    }

    buildAsk() {
      const { cast, drinks } = this.reading.story;
      this.people = cast.map((name) => {
        const input = make("input", {
          type: "radio",
          name: `${this.id}-ask`,
          value: name,
          onchange: () => this.ask(name),
        });
        return make("label", { class: "tx-person" }, input, make("span", {}, this.person(name)));
      });
      this.bars = drinks.map((drink) => {
        const bar = make("div", { class: "tx-bar", "data-drink": drink });
        const value = make("span", { class: "tx-value" });
        const row = make(
          "div",
          { class: "tx-answer", "data-drink": drink },
          this.swatch(drink),
          make("span", { class: "tx-name" }, this.drink(drink)),
          make("span", { class: "tx-track" }, bar, make("span", { class: "tx-one" })),
          value,
        );
        return { row, bar, value };
      });
      this.verdict = make("p", { class: "tx-verdict", "aria-live": "polite" }, make("b", {}), " ", make("span", {}));
      this.lastNote = make("p", { class: "tx-note tx-last" }, make("span", { class: "tx-mark" }), this.words.last);
      return make(
        "div",
        { class: "tx-ask" },
        make("fieldset", { class: "tx-people" }, make("legend", {}, this.words.asked), ...this.people),
        this.verdict,
        make("div", { class: "tx-answers" }, ...this.bars.map((bar) => bar.row)),
        this.lastNote,
      );
    }

    /** A piece of the drink's line in the curves: colour and dashes. */
    swatch(drink) {
      return svg("tx-swatch", 6, "M0 3H24", { "data-drink": drink, "stroke-dasharray": DASHES[drink].join(" ") });
    }

    buildTime() {
      const { words } = this;
      this.canvas = make("canvas", { class: "tx-curves", role: "img" });
      this.canvas.addEventListener("pointerdown", (event) => this.drag(event));
      this.scrub = make("input", {
        type: "range",
        class: "tx-scrub",
        min: 0,
        step: 1,
        "aria-label": words.scrub,
        oninput: () => this.seek(+this.scrub.value),
      });
      this.curveName = make("span", {});
      this.dotted = make("span", { class: "tx-dotted" }, words.dotted);
      this.surpriseNow = make("span", { class: "tx-surprise" });
      return make(
        "div",
        { class: "tx-time" },
        make("div", { class: "tx-time-head" }, this.curveName, this.dotted),
        this.canvas,
        make("div", { class: "tx-time-foot" }, this.surpriseNow),
        this.scrub,
      );
    }

    buildGates() {
      const { story } = this.reading;
      this.sliders = {};
      const rows = story.free.map((gate) => {
        const [letter, name, does] = this.words.gate[story.beta ? "beta" : gate];
        const scale = story.beta ? 2 : 1;
        const most = (gate === "theta" ? story.most : 1) * scale * (story.beta ? 1.1 : 1);
        const id = `${this.id}-${gate}`;
        const output = make("output", { for: id });
        const input = make("input", {
          type: "range",
          id,
          min: 0,
          max: most,
          step: 0.01,
          "data-gate": gate,
          "aria-describedby": `${id}-does`,
          oninput: () => this.setGate(gate, +input.value / scale),
        });
        this.sliders[gate] = { input, output, scale };
        return make(
          "div",
          { class: "tx-gate" },
          make("label", { for: id }, make("i", {}, letter), " ", name),
          output,
          input,
          make("p", { class: "tx-note", id: `${id}-does` }, does),
        );
      });
      const fieldset = make("fieldset", { class: "tx-gates" }, make("legend", {}, this.words.gates), ...rows);
      if (!this.small) return fieldset;
      const small = make("div", { class: "tx-buttons" });
      if (story.name === "lesson09")
        small.append(
          (this.freezeButton = make(
            "button",
            { type: "button", "data-do": "freeze", onclick: () => this.freeze() },
            make("b", {}),
            make("span", {}, this.words.freezeNote),
          )),
        );
      small.append(this.buildReset());
      fieldset.append(small);
      return fieldset;
    }

    buildReset() {
      return make(
        "button",
        { type: "button", "data-do": "reset", onclick: () => this.choose(this.reading.story.name) },
        make("b", {}, this.words.reset),
        make("span", {}, this.words.resetNote),
      );
    }

    buildEvents() {
      const { words } = this;
      const { cast, drinks } = this.reading.story;
      const choice = (label, names, translate) =>
        make(
          "select",
          { "aria-label": label },
          ...names.map((name) => make("option", { value: name }, translate(name))),
        );
      this.who = choice(words.who, cast, (name) => this.person(name));
      this.what = choice(words.what, drinks, (name) => this.drink(name));
      this.who.value = "Emi";
      const button = (name, title, note, onclick) => {
        const text = make("span", {}, note);
        const element = make("button", { type: "button", "data-do": name, onclick }, make("b", {}, title), text);
        return { element, text };
      };
      this.lieButton = button("lie", words.lieTo, "", () =>
        this.say([`${this.reading.asked}:${this.reading.otherDrink()}!`]),
      );
      this.repeatButton = button("repeat", words.repeat, "", () =>
        this.say([`${this.reading.asked}:${this.reading.lastTold()}`]),
      );
      const noise = button("noise", words.doNoise, words.noiseNote, () => this.say(["~", "~", "~"]));
      const forget = button("forget", words.doForget, words.forgetNote, () => this.say(Array(4).fill("forget")));
      this.tellButtons = [this.lieButton, this.repeatButton, noise, forget].map((one) => one.element);
      const form = make(
        "form",
        {
          class: "tx-tell",
          onsubmit: (event) => {
            event.preventDefault();
            this.ask(this.who.value);
            this.say([`${this.who.value}:${this.what.value}`]);
          },
        },
        this.who,
        make("span", {}, words.drinks_),
        this.what,
        (this.tellButton = make("button", { type: "submit", "data-do": "tell" }, make("b", {}, words.tell))),
      );
      return make(
        "fieldset",
        { class: "tx-events" },
        make("legend", {}, words.events),
        form,
        make("div", { class: "tx-buttons" }, ...this.tellButtons, this.buildReset()),
      );
    }

    /* ---- what the reader does */

    choose(name) {
      this.pause();
      const before = this.reading.story;
      this.reading.load(name);
      const same = ["cast", "drinks", "free"].every(
        (part) => String(before[part]) === String(this.reading.story[part]),
      );
      if (!same) this.buildBody();
      this.changed(!same);
    }

    seek(position) {
      this.pause();
      this.reading.position = clamp(position, 0, this.reading.tokens.length);
      this.changed();
    }

    ask(person) {
      this.reading.asked = person;
      this.changed();
    }

    setGate(gate, value) {
      this.reading.gates[gate] = value;
      this.reading.compute();
      this.changed();
    }

    freeze() {
      this.reading.frozen = this.reading.frozen === Infinity ? this.reading.position : Infinity;
      this.reading.compute();
      this.changed();
    }

    /** Tells the memory something now, and reads it. */
    say(words) {
      this.pause();
      if (!this.reading.hasRoom(words.length)) return;
      this.reading.insert(words);
      this.shown = this.widened(this.reading.position, words.length);
      this.advance();
      if (words.length > 1) this.run(this.reading.position + words.length - 1);
    }

    togglePlay() {
      if (this.playing) this.pause();
      else {
        if (this.reading.position === this.reading.tokens.length) this.reading.position = 0;
        this.run(this.reading.tokens.length);
      }
      this.changed();
    }

    run(until) {
      this.until = until;
      this.playing = true;
      this.since = performance.now();
      this.changed();
    }

    pause() {
      this.playing = false;
    }

    advance() {
      this.reading.position++;
      if (this.reading.position >= this.until) this.pause();
      this.changed();
    }

    /** Scrubs along the curves with a finger or a mouse. */
    drag(event) {
      const move = (at) => {
        const box = this.canvas.getBoundingClientRect();
        const share = (at.clientX - box.left - PAD) / (box.width - 2 * PAD);
        this.seek(Math.round(share * this.reading.tokens.length));
      };
      const end = () => {
        this.canvas.removeEventListener("pointermove", move);
      };
      this.canvas.setPointerCapture(event.pointerId);
      this.canvas.addEventListener("pointermove", move);
      this.canvas.addEventListener("pointerup", end, { once: true });
      this.canvas.addEventListener("pointercancel", end, { once: true });
      move(event);
    }

    /* ---- what follows from it */

    /** Words, labels and names at once; numbers that can glide, in the frames to come. */
    changed(atOnce = false) {
      const { reading } = this;
      this.goal = {
        position: Float64Array.of(reading.position),
        M: reading.seen.M[reading.position],
        S: reading.seen.S[reading.position],
        answers: reading.answers(),
        curves: reading.curves(),
        surprise: reading.seen.surprise,
        plain: reading.plain ? reading.curves(reading.plain) : new Float64Array(0),
      };
      this.describe();
      this.chipsFor(reading.tokens);
      if (atOnce || reducedMotion.matches || !this.shown) {
        this.shown = copied(this.goal);
        this.draw();
      }
      this.wake();
    }

    /** The shown curves with room for tokens that were put in, so that the others glide to their new places. */
    widened(position, count) {
      const { rows } = this.reading.story;
      const shown = { ...this.shown };
      const wider = (old, at, size) =>
        Float64Array.from([...old.slice(0, at), ...Array(size).fill(0), ...old.slice(at)]);
      shown.surprise = wider(shown.surprise, position, count);
      const at = (position + 1) * rows;
      const last = Array.from(shown.curves.slice(position * rows, at));
      shown.curves = Float64Array.from([
        ...shown.curves.slice(0, at),
        ...Array(count).fill(last).flat(),
        ...shown.curves.slice(at),
      ]);
      return shown;
    }

    wake() {
      if (this.frame) return;
      this.lastFrame = performance.now();
      this.frame = requestAnimationFrame((now) => this.tick(now));
    }

    /** One frame: a token further where it is time, everything a little nearer to what is true. */
    tick(now) {
      this.frame = null;
      if (this.playing && now - this.since >= this.stepMs) {
        this.since = now;
        this.advance();
      }
      const share = reducedMotion.matches ? 1 : 1 - Math.exp(-Math.max(0, now - this.lastFrame) / GLIDE_MS);
      this.lastFrame = now;
      const far = glide(this.shown, this.goal, share);
      this.draw();
      if ((far || this.playing) && !this.frame) this.frame = requestAnimationFrame((next) => this.tick(next));
    }

    /** Everything that is text, and the exact numbers as data. */
    describe() {
      const { reading, words } = this;
      const { position, tokens, story, asked } = reading;
      const first = this.small ? 0 : 1; // lessons count tokens from 0
      this.numbered = (index) => index + first;
      const place = position
        ? words.token(this.numbered(position - 1), this.numbered(tokens.length - 1))
        : words.before;
      place.forEach((text, part) => setText(this.place.childNodes[part], text));
      setText(this.told, this.narrate());
      this.scrub.max = tokens.length;
      this.scrub.value = position;
      this.scrub.setAttribute("aria-valuetext", `${place.join("")}. ${this.narrate()}`);
      this.playButton.querySelector("path").setAttribute("d", ICONS[this.playing ? "pause" : "play"]);
      for (const name of ["aria-label", "title"])
        this.playButton.setAttribute(name, this.playing ? words.pause : words.play);
      for (const label of this.people) label.firstChild.checked = label.firstChild.value === asked;
      this.describeAnswer();
      this.describeTime();
      for (const [gate, { input, output, scale }] of Object.entries(this.sliders)) {
        input.value = reading.gates[gate] * scale;
        setText(output, (reading.gates[gate] * scale).toFixed(2));
      }
      if (this.freezeButton)
        setText(this.freezeButton.firstChild, reading.frozen === Infinity ? words.freeze : words.thaw);
      if (!this.small) this.describeEvents();
      const u = position ? reading.seen.surprise[position - 1] : 0;
      Object.assign(this.root.dataset, { position, tokens: tokens.length, asked, story: story.name, surprise: u });
      this.M.figure.dataset.values = Array.from(reading.seen.M[position]);
      if (this.S) this.S.figure.dataset.values = Array.from(reading.seen.S[position]);
    }

    /** What happened at the last token that was read, in one or two sentences of its own numbers. */
    narrate() {
      const { reading, words } = this;
      const { position } = reading;
      if (!position) return words.empty;
      const token = reading.tokens[position - 1];
      if (position > reading.frozen) return words.frozen;
      const u = digits(reading.seen.surprise[position - 1] / this.unit());
      if (token.kind === "noise") return words.noisy(u);
      if (token.kind === "silence") return words.silent(digits(norm(reading.seen.S[position])));
      if (token.kind === "forget")
        return words.forgot(reading.gatesOf(position - 1).alpha, digits(norm(reading.seen.M[position])));
      const row = reading.story.drinks.indexOf(token.drink);
      const [before, after] = [position - 1, position].map((at) => digits(reading.answers(token.person, at)[row]));
      const said = this.says(token.person, token.drink);
      return words.told(
        token.kind === "lie" ? words.lie(said) : said,
        this.person(token.person),
        this.drink(token.drink),
        before,
        after,
        u,
        reading.story.beta,
      );
    }

    /** |u| is 2 |v - Mk| for keys of length 1; lesson 01, which has no surprise yet, speaks of the error. */
    unit() {
      return this.reading.story.beta ? 2 : 1;
    }

    describeAnswer() {
      const { reading, words } = this;
      const { best, value, second, lead } = reading.verdict();
      const who = this.person(reading.asked);
      const known = value >= HEARD;
      const grade = !known ? "nothing" : lead >= SURE ? "sure" : lead >= LIKELY ? "likely" : "torn";
      const [head, , tail] = this.verdict.childNodes;
      this.verdict.setAttribute("aria-live", this.playing ? "off" : "polite");
      setText(head, known ? words.verdict(who, this.drink(best), digits(value)) : words.unknown(who));
      setText(
        tail,
        {
          nothing: () => words.nothing,
          sure: () => words.sure(digits(lead)),
          likely: () => words.likely(digits(lead)),
          torn: () => words.torn(this.drink(second), digits(lead)),
        }[grade](),
      );
      Object.assign(this.verdict.dataset, { best: known ? best : "", lead, grade });
      const answers = reading.answers(),
        last = reading.lastTold();
      this.bars.forEach(({ row, value: text }, index) => {
        row.dataset.value = answers[index];
        row.classList.toggle("tx-told-last", reading.story.drinks[index] === last);
        setText(text, digits(answers[index]));
      });
      this.lastNote.classList.toggle("tx-absent", !last);
    }

    describeTime() {
      const { reading, words } = this;
      const { story, position, seen, asked } = reading;
      const who = this.person(asked),
        answers = reading.answers();
      setText(this.curveName, words.answers(who));
      this.dotted.classList.toggle("tx-absent", !reading.plain);
      const u = position ? digits(seen.surprise[position - 1] / this.unit()) : "–";
      setText(this.surpriseNow, `${story.beta ? words.error : words.surprise}: ${u}`);
      const at = seen.surprise.reduce((best, x, index) => (x > seen.surprise[best] ? index : best), 0);
      const text = story.drinks.map((drink, row) => `${this.drink(drink)} ${digits(answers[row])}`).join(", ");
      this.canvas.setAttribute(
        "aria-label",
        words.timeAlt(who, text, digits(seen.surprise[at] / this.unit()), this.numbered(at)),
      );
    }

    describeEvents() {
      const { reading, words } = this;
      const last = reading.lastTold(),
        full = !reading.hasRoom(4);
      const never = words.neverTold;
      setText(this.lieButton.text, full ? words.full : last ? this.says(reading.asked, reading.otherDrink()) : never);
      setText(this.repeatButton.text, full ? words.full : last ? this.says(reading.asked, last) : never);
      for (const button of [...this.tellButtons, this.tellButton]) button.disabled = full;
      if (!last) this.lieButton.element.disabled = this.repeatButton.element.disabled = true;
      const { name } = reading.story;
      for (const button of this.sceneButtons) {
        const chosen = button.dataset.scene === name,
          row = button.parentElement;
        if (chosen && button.getAttribute("aria-pressed") === "false")
          row.scrollLeft = button.offsetLeft - row.offsetLeft - 40;
        button.setAttribute("aria-pressed", chosen);
      }
      setText(this.sceneText, words.scene[name][1]);
    }

    /** The tokens as they pass by; made anew only when the stream has changed. */
    chipsFor(tokens) {
      if (
        this.chipTokens &&
        this.chipTokens.length === tokens.length &&
        tokens.every((token, i) => token === this.chipTokens[i])
      )
        return;
      this.chipTokens = tokens.slice();
      this.chips.replaceChildren(
        ...tokens.map((token, index) => {
          const text = token.person
            ? [
                make("b", {}, this.person(token.person)),
                make("span", { "data-drink": token.drink }, this.drink(token.drink)),
              ]
            : [
                make("b", {}, { noise: "≈", silence: "…", forget: "α" }[token.kind]),
                make("span", {}, this.words[token.kind]),
              ];
          const chip = make(
            "div",
            {
              class: `tx-chip tx-is-${token.kind}${token.mine ? " tx-mine" : ""}`,
              onclick: () => this.seek(index + 1),
            },
            ...text,
          );
          return chip;
        }),
      );
    }

    /* ---- drawing */

    /** Colours as the style sheet has them at present. */
    colours() {
      const style = getComputedStyle(this.root);
      const get = (name) => style.getPropertyValue(`--tx-${name}`).trim();
      this.paint = Object.fromEntries(
        ["soft", "line", "accent", "bar", ...this.reading.story.drinks].map((name) => [name, get(name)]),
      );
      const rgb = (name) => get(name).split(/[ ,]+/).map(Number);
      this.ramp = { plus: rgb("plus"), minus: rgb("minus"), zero: rgb("zero") };
      if (this.shown) this.draw();
    }

    watch() {
      const again = () => this.colours();
      window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
      new MutationObserver(again).observe(document.body, { attributes: true, attributeFilter: ["data-theme"] });
      new ResizeObserver(() => {
        this.size = null;
        this.draw();
      }).observe(this.root);
    }

    draw() {
      this.drawMatrix(this.M, this.shown.M, 1);
      if (this.S) this.drawMatrix(this.S, this.shown.S, 0.5);
      this.drawBars();
      this.drawChips();
      this.drawCurves();
    }

    /** Fields between blue, paper and red; black or white figures, whichever is easier to read on it. */
    drawMatrix(matrix, values, most) {
      const { story, position, tokens, asked } = this.reading;
      const now = position ? tokens[position - 1] : null;
      matrix.cells.forEach((cell, index) => {
        const x = clamp(values[index] / most, -1, 1),
          strong = Math.sqrt(Math.abs(x));
        const end = x < 0 ? this.ramp.minus : this.ramp.plus;
        const colour = this.ramp.zero.map((zero, i) => Math.round(zero + (end[i] - zero) * strong));
        const key = colour.join();
        if (cell.painted !== key) {
          cell.painted = key;
          cell.style.backgroundColor = `rgb(${key})`;
          cell.style.color = luminance(colour) > 0.179 ? "#000" : "#fff";
        }
        setText(cell, Math.abs(values[index]) < 0.005 ? "0" : digits(values[index]));
      });
      matrix.heads.forEach((head, column) => {
        head.classList.toggle("tx-written", Boolean(now && now.person && now.k[column]));
        head.classList.toggle("tx-asked", Boolean(story.key(asked)[column]));
      });
      matrix.rows.forEach((row, index) =>
        row.classList.toggle("tx-written", Boolean(now && now.person && now.v[index])),
      );
    }

    drawBars() {
      this.bars.forEach(({ bar }, row) => {
        bar.style.transform = `scaleX(${clamp(this.shown.answers[row], -0.3, 1.3).toFixed(4)})`;
      });
    }

    drawChips() {
      const size = this.measured();
      const at = this.shown.position[0];
      this.chips.style.transform = `translateX(${(size.ticker / 2 - (at - 0.5) * size.chip).toFixed(2)}px)`;
      const { position } = this.reading;
      if (this.chipsAt === position && this.chipsSeen === this.chipTokens) return;
      this.chipsAt = position;
      this.chipsSeen = this.chipTokens;
      [...this.chips.children].forEach((chip, index) => {
        chip.classList.toggle("tx-now", index === position - 1);
        chip.classList.toggle("tx-future", index >= position);
      });
    }

    /** Sizes on the page, asked for once until it is resized. */
    measured() {
      if (!this.size) {
        const chip = this.chips.firstElementChild;
        this.size = {
          ticker: this.ticker.clientWidth,
          chip: chip ? chip.offsetWidth : 100,
          width: this.canvas.clientWidth,
          height: this.canvas.clientHeight,
        };
        const ratio = window.devicePixelRatio || 1;
        this.canvas.width = Math.round(this.size.width * ratio);
        this.canvas.height = Math.round(this.size.height * ratio);
      }
      return this.size;
    }

    /** Answers over the stream as lines, surprise as bars below them, and the present moment. */
    drawCurves() {
      const { width, height } = this.measured();
      if (!width) return;
      const context = this.canvas.getContext("2d");
      const ratio = this.canvas.width / width;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      const count = this.reading.tokens.length;
      const x = (position) => PAD + ((width - 2 * PAD) * position) / count;
      const split = Math.round(height * 0.66);
      this.drawAnswers(context, x, split, width);
      this.drawSurprise(context, x, split + 12, height, (width - 2 * PAD) / count);
      context.strokeStyle = this.paint.accent;
      context.lineWidth = 2;
      const now = x(this.shown.position[0]);
      line(context, [
        [now, 0],
        [now, height],
      ]);
    }

    drawAnswers(context, x, bottom, width) {
      const { story } = this.reading;
      const low = clamp(Math.min(...this.shown.curves), -2, -0.4),
        high = clamp(Math.max(...this.shown.curves), 1.25, 3);
      const y = (answer) => bottom - 5 - ((clamp(answer, low, high) - low) / (high - low)) * (bottom - 10);
      context.font = "11px system-ui, sans-serif";
      context.fillStyle = this.paint.soft;
      context.lineWidth = 1;
      for (const mark of [0, 1]) {
        context.strokeStyle = this.paint.line;
        line(context, [
          [0, y(mark)],
          [width, y(mark)],
        ]);
        context.fillText(String(mark), 1, y(mark) - 3);
      }
      const last = this.reading.lastTold();
      const paths = (curves, row) =>
        Array.from({ length: curves.length / story.rows }, (_, p) => [x(p), y(curves[p * story.rows + row])]);
      story.drinks.forEach((drink, row) => {
        context.strokeStyle = this.paint[drink];
        if (this.shown.plain.length) {
          context.globalAlpha = 0.75;
          context.lineWidth = 1;
          context.setLineDash([1, 3]);
          line(context, paths(this.shown.plain, row));
          context.globalAlpha = 1;
        }
        context.lineWidth = drink === last ? 3 : 2;
        context.setLineDash(DASHES[drink]);
        line(context, paths(this.shown.curves, row));
        context.setLineDash([]);
      });
      const at = this.shown.position[0];
      story.drinks.forEach((drink, row) => {
        context.fillStyle = this.paint[drink];
        context.beginPath();
        context.arc(x(at), y(this.shown.answers[row]), 4, 0, 2 * Math.PI);
        context.fill();
      });
    }

    drawSurprise(context, x, top, bottom, step) {
      const { tokens, position } = this.reading;
      const { surprise } = this.shown;
      const highest = Math.max(2, ...surprise);
      const thick = clamp(step * 0.62, 2, 18);
      for (let index = 0; index < tokens.length; index++) {
        const tall = Math.max(1, (surprise[index] / highest) * (bottom - top - 6));
        context.fillStyle = index === position - 1 ? this.paint.accent : this.paint.bar;
        context.globalAlpha = index < position ? 1 : 0.4;
        context.fillRect(x(index + 1) - thick / 2, bottom - 5 - tall, thick, tall);
        context.globalAlpha = 1;
        if (tokens[index].mine) {
          context.fillStyle = this.paint.accent;
          context.fillRect(x(index + 1) - thick / 2, bottom - 3, thick, 3);
        }
      }
    }
  }

  /* ------------------------------------------------------------------ gliding */

  function copied(arrays) {
    return Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, Float64Array.from(array)]));
  }

  /** Moves all numbers by this share of the way to their goal; true while something is still on its way. */
  function glide(shown, goal, share) {
    let far = false;
    for (const [name, target] of Object.entries(goal)) {
      if (shown[name].length !== target.length) shown[name] = Float64Array.from(target); // another stream
      const now = shown[name];
      for (let i = 0; i < target.length; i++) {
        const way = target[i] - now[i];
        if (Math.abs(way) < 1e-3 || !Number.isFinite(way)) now[i] = target[i];
        else {
          now[i] += way * share;
          far = true;
        }
      }
    }
    return far;
  }

  function line(context, points) {
    context.beginPath();
    points.forEach(([x, y]) => context.lineTo(x, y));
    context.stroke();
  }

  /** Relative luminance of a colour, 0 to 1. */
  function luminance(colour) {
    const [r, g, b] = colour.map((part) =>
      part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4,
    );
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  /* ------------------------------------------------------------------ into the page */

  function mount() {
    for (const host of document.querySelectorAll(".titans-explainer"))
      if (!host.player) host.player = new Player(host);
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", mount);
  else mount();
})();
