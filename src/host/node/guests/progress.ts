/** How fetching and building tell what they are at. */

export interface ProgressEvent {
  /** "step" starts something new, "update" refreshes the text of the step, "done" ends the last step. */
  readonly kind: "step" | "update" | "done";
  readonly text: string;
}

/** Turns calls into events for one listener. */
export class Progress {
  readonly #listener: (event: ProgressEvent) => void;

  constructor(listener: (event: ProgressEvent) => void) {
    this.#listener = listener;
  }

  step(text: string): void {
    this.#listener({ kind: "step", text });
  }

  update(text: string): void {
    this.#listener({ kind: "update", text });
  }

  done(text: string): void {
    this.#listener({ kind: "done", text });
  }
}
