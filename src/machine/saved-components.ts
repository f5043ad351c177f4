/** Saved state by component: each has a name, a version of its own, and JSON that its owner's shape describes. */
import { UserError } from "../base/errors.ts";
import { anything, count, type Json, list, noRegions, object, type RegionSource, type Shape, ShapeError, text } from "../base/shape.ts";

export interface SavedComponent {
  readonly name: string;
  readonly version: number;
  readonly state: Json;
}

const maximumComponents = 1000;

export const savedComponentsShape: Shape<SavedComponent[]> = list(
  object<SavedComponent>({ name: text(100), version: count, state: anything }), { maximum: maximumComponents },
);

/** Hands out the components of one snapshot, checked. */
export class SavedComponents {
  readonly #components: ReadonlyMap<string, SavedComponent>;
  readonly #regions: RegionSource;
  readonly #taken: Set<string> = new Set();

  /** `regions` has the byte arrays that are kept beside the JSON, by `component/path`. */
  constructor(components: readonly SavedComponent[], regions: RegionSource) {
    this.#components = new Map(components.map((component) => [component.name, component]));
    this.#regions = regions;
  }

  /** @throws UserError BAD_SNAPSHOT when `json` is no list of components. */
  static fromJson(json: Json, regions: RegionSource): SavedComponents {
    return new SavedComponents(decode(savedComponentsShape, json, "its list of components", noRegions), regions);
  }

  /** @throws UserError BAD_SNAPSHOT when it is missing or not as `shape` says, SNAPSHOT_NEWER when newer than `version`. */
  take<State>(name: string, version: number, shape: Shape<State>): State {
    const component = this.#components.get(name);
    if (component === undefined) throw bad(`it has no state of ${name}`);
    if (component.version > version) {
      throw new UserError("SNAPSHOT_NEWER", `The snapshot was made by a newer Ringmaster: its state of ${name} has version ${component.version}, and this one knows ${version}. Restore it with the version that made it, or a newer one.`);
    }
    if (component.version < version) throw bad(`the state of ${name} has version ${component.version}, which is not supported any more`);
    this.#taken.add(name);
    return decode(shape, component.state, `the state of ${name}`, { take: (path, sizeBytes) => this.#regions.take(`${name}/${path}`, sizeBytes) });
  }

  /** @throws UserError BAD_SNAPSHOT when there are components that nobody has taken. */
  checkAllTaken(): void {
    const left = [...this.#components.keys()].filter((name) => !this.#taken.has(name));
    if (left.length > 0) throw bad(`it has state of ${left.join(", ")}, which this machine does not have`);
  }
}

function decode<Value>(shape: Shape<Value>, json: Json, what: string, regions: RegionSource): Value {
  try {
    return shape.decode(json, "", regions);
  } catch (error) {
    if (error instanceof ShapeError) throw bad(`${what} is wrong: ${error.message}`, error);
    throw error;
  }
}

function bad(message: string, cause?: unknown): UserError {
  return new UserError("BAD_SNAPSHOT", `The snapshot cannot be restored: ${message}.`, { cause });
}
