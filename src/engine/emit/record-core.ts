/** Code of the interpreter: what it needs of the state area and of the record it runs. */
import type { Routine } from "../../ir/index.ts";
import * as state from "../../isa/state.ts";
import type { FunctionBuilder, FuncIndex, Local } from "../../wasm/index.ts";
import type { HandlerForm } from "../handler.ts";
import { EmitterCore } from "./core.ts";

/** Host functions that generated code calls. All find their input in the state area and return 0 or `fault`. */
export interface HostFunctions {
  /** (sizeBytes, AccessFlag bits): loads `slowAddress` into scratch 15. */
  readonly slowLoad: FuncIndex;
  /** (sizeBytes, AccessFlag bits): stores scratch 15 to `slowAddress`. */
  readonly slowStore: FuncIndex;
  /** (sizeBytes, AccessFlag bits): checks `slowAddress` for writing. */
  readonly slowCheckWrite: FuncIndex;
  /** (segment or -1 for the operand's, sizeBytes, intent): legacy segment check of the offset in `slowAddress`. */
  readonly segmentCheck: FuncIndex;
  /** (routine number): returns a Status. */
  readonly routine: FuncIndex;
  /** The same for a routine that only observes; what is not `Status.Next` means that `routine` has to be asked. */
  readonly observe: FuncIndex;
}

/** How a handler's code leaves; the code that follows each is unreachable. */
export interface Exits {
  /** An exception is recorded. `currentRecord` is set. */
  fault(): void;
  /** `rip` holds the target. */
  jump(): void;
  /** To the record's own relative target. */
  jumpTarget(): void;
  /** Leaves generated code after this instruction; `rip` is set to the next one. */
  exit(): void;
}

export interface EmitterEnvironment {
  readonly f: FunctionBuilder;
  readonly cpu: Local<"i32">;
  readonly record: Local<"i32">;
  readonly host: HostFunctions;
  readonly exits: Exits;
  routineNumber(routine: Routine): number;
  /** The function of the routine's fast path, if it has one. */
  fastFunction(routine: Routine): FuncIndex | undefined;
}

export class RecordCore extends EmitterCore {
  readonly environment: EmitterEnvironment;
  readonly form: HandlerForm;

  constructor(environment: EmitterEnvironment, form: HandlerForm) {
    super(environment.f);
    this.environment = environment;
    this.form = form;
  }

  stateAddress(): void {
    this.f.local.get(this.environment.cpu);
  }

  recordField16(offset: number): void {
    this.f.local.get(this.environment.record);
    this.f.i32.load16_u(offset);
  }

  /** Pushes the address of the register that a 16-bit record field names. */
  registerAddress(recordOffset: number): void {
    this.stateAddress();
    this.recordField16(recordOffset);
    this.f.i32.add();
  }

  ripPlus(field: number): void {
    this.stateAddress();
    this.f.i64.load(state.ripBase.offset);
    this.f.local.get(this.environment.record);
    this.f.i64.load16_u(field);
    this.f.i64.add();
  }

  setCurrentRecord(): void {
    this.stateAddress();
    this.f.local.get(this.environment.record);
    this.f.i32.store(state.currentRecord.offset);
  }
}
