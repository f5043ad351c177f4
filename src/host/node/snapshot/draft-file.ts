/** A file that appears under its name when it is complete, and not before: written beside it, made durable, then renamed. */
import { type FileHandle, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { UserError } from "../../../base/errors.ts";

const bufferBytes = 1 << 20;

export class DraftFile implements AsyncDisposable {
  readonly path: string;
  readonly #draft: string;
  readonly #handle: FileHandle;
  readonly #buffer: Buffer = Buffer.allocUnsafe(bufferBytes);
  #buffered = 0;
  #written = 0;
  #isDone = false;

  private constructor(path: string, draft: string, handle: FileHandle) {
    this.path = path;
    this.#draft = draft;
    this.#handle = handle;
  }

  /** @throws UserError FILE_NOT_WRITABLE. */
  static async create(path: string): Promise<DraftFile> {
    const absolute = resolve(path);
    const draft = join(dirname(absolute), draftName(absolute, process.pid));
    try {
      await removeLeftovers(absolute);
      return new DraftFile(absolute, draft, await open(draft, "w"));
    } catch (cause) {
      throw notWritable(path, cause);
    }
  }

  /** Where the next byte goes. */
  get position(): number {
    return this.#written + this.#buffered;
  }

  /** @throws UserError FILE_NOT_WRITABLE. */
  async append(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const count = Math.min(bytes.length - done, bufferBytes - this.#buffered);
      this.#buffer.set(bytes.subarray(done, done + count), this.#buffered);
      this.#buffered += count;
      done += count;
      if (this.#buffered === bufferBytes) await this.#flush();
    }
  }

  /**
   * The file takes its name, and the place of what had it. After a crash at any moment the name stands for the old or
   * for the new contents, whole.
   * @throws UserError FILE_NOT_WRITABLE.
   */
  async finish(): Promise<void> {
    await this.#flush();
    try {
      await this.#handle.sync();
      await this.#handle.close();
      await rename(this.#draft, this.path);
      this.#isDone = true;
      await syncDirectory(dirname(this.path));
    } catch (cause) {
      throw notWritable(this.path, cause);
    }
  }

  /** What is not finished never was. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isDone) return;
    await this.#handle.close().catch(() => {});
    await rm(this.#draft, { force: true });
  }

  async #flush(): Promise<void> {
    try {
      for (let done = 0; done < this.#buffered;) {
        const { bytesWritten } = await this.#handle.write(this.#buffer, done, this.#buffered - done, this.#written + done);
        done += bytesWritten;
      }
    } catch (cause) {
      throw notWritable(this.path, cause);
    }
    this.#written += this.#buffered;
    this.#buffered = 0;
  }
}

function draftName(path: string, processId: number): string {
  return `.${basename(path)}.${processId}.draft`;
}

/** Drafts of the same file whose process is gone. */
async function removeLeftovers(path: string): Promise<void> {
  const prefix = `.${basename(path)}.`;
  for (const name of await readdir(dirname(path))) {
    if (!name.startsWith(prefix) || !name.endsWith(".draft")) continue;
    const owner = Number(name.slice(prefix.length, -".draft".length));
    if (Number.isInteger(owner) && name === draftName(path, owner) && !isAlive(owner)) await rm(join(dirname(path), name), { force: true });
  }
}

function isAlive(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Without this, a power failure could undo the renaming. Some file systems cannot do it, and need not. */
async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EINVAL" && code !== "ENOTSUP") throw error;
  } finally {
    await handle.close();
  }
}

function notWritable(path: string, cause: unknown): UserError {
  if (cause instanceof UserError) return cause;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
  const advice = code === "ENOSPC" || code === "EDQUOT" ? "make room there" : "choose another place";
  return new UserError("FILE_NOT_WRITABLE", `The snapshot ${path} cannot be written (${code}): ${advice}.`, { cause });
}
