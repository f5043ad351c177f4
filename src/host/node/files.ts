/** Reads whole files that a user named, with errors that say what to do. */
import { readFileSync } from "node:fs";
import { UserError } from "../../base/errors.ts";

/**
 * The bytes of the file at `path`; `what` names its role, as in "kernel".
 * @throws UserError FILE_NOT_FOUND, FILE_NOT_READABLE.
 */
export function readUserFile(path: string, what: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
    if (code === "ENOENT" || code === "ENOTDIR") {
      throw new UserError("FILE_NOT_FOUND", `There is no ${what} file ${path}: check the path.`, { cause });
    }
    if (code === "EISDIR") throw new UserError("FILE_NOT_READABLE", `The ${what} ${path} is a directory: name a file.`, { cause });
    if (code === "ERR_FS_FILE_TOO_LARGE") {
      throw new UserError("BAD_IMAGE", `The ${what} ${path} has more than 2 GiB: no ${what} is that large.`, { cause });
    }
    throw new UserError("FILE_NOT_READABLE", `The ${what} file ${path} cannot be read (${code}): check its permissions.`, { cause });
  }
}
