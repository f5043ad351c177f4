/** What a running machine does for other processes of its user. */
import { UserError, type Vm } from "../api/index.ts";
import type { ControlRequest } from "../host/node/control-socket.ts";
import type { Json } from "../base/shape.ts";
import { answerTop } from "./top.ts";
import { answerControlBlock, answerTrace } from "./trace.ts";

/** @throws UserError BAD_ARGUMENT for what cannot be asked for, and what was asked for throws. */
export async function control(vm: Vm, request: ControlRequest, onProgress: (progress: Json) => void, signal: AbortSignal): Promise<Json> {
  switch (request.verb) {
    case "snapshot": {
      const { path, parent } = request;
      if (typeof path !== "string" || (parent !== undefined && typeof parent !== "string")) throw new UserError("BAD_ARGUMENT", "A snapshot is asked for with a path.");
      const report = await vm.snapshot(path, {
        ...(parent === undefined ? {} : { parent }), onProgress: ({ doneBytes, totalBytes }) => onProgress({ doneBytes, totalBytes }),
      });
      return { ...report };
    }
    case "top": return await answerTop(vm, request, onProgress, signal);
    case "trace": return await answerTrace(vm, request);
    case "vmcs": return answerControlBlock(vm, request);
    default:
      throw new UserError("BAD_ARGUMENT", `A machine does not know how to "${request.verb}".`);
  }
}
