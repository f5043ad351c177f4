/**
 * How other processes of the same user talk to a running machine: a socket of its name, over which requests and answers go
 * as lines of JSON. A request is an object with `verb`; the answers are any number of `{ progress }` and then one
 * `{ result }` or `{ error: { code, message } }`.
 */
import { chmodSync, lstatSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { UserError, type UserErrorCode } from "../../base/errors.ts";
import { isObject, type Json } from "../../base/shape.ts";

export type ControlRequest = { readonly verb: string } & { readonly [name: string]: Json };

/** Does what a request says; errors that are the user's go back to who asked. `signal` tells that nobody listens any more. */
export type ControlHandler = (request: ControlRequest, onProgress: (progress: Json) => void, signal: AbortSignal) => Promise<Json>;

const maximumLineBytes = 0x1_0000;
const suffix = ".sock";
/** A bug of ours rather than a mistake of whoever asked. */
const internalError = "INTERNAL";
const namePattern = /^[A-Za-z0-9][\w.-]{0,63}$/u;

/** Where this user's machines have their sockets. */
function socketDirectory(): string {
  const { XDG_RUNTIME_DIR: runtime } = process.env;
  return runtime !== undefined && runtime !== "" ? join(runtime, "ringmaster") : join(tmpdir(), `ringmaster-${userInfo().uid}`);
}

/** @throws UserError BAD_ARGUMENT. */
function socketPath(name: string): string {
  if (!namePattern.test(name)) throw new UserError("BAD_ARGUMENT", `A machine cannot be called "${name}": use letters, digits, dots, dashes and underscores, at most 64.`);
  return join(socketDirectory(), name + suffix);
}

/** Names of machines that have a socket; some of them may have died without taking it away. */
export function machineNames(): string[] {
  try {
    return readdirSync(socketDirectory()).filter((name) => name.endsWith(suffix)).map((name) => name.slice(0, -suffix.length)).toSorted();
  } catch {
    return [];
  }
}

/** Answers for the machine `name` until it is disposed of. */
export class ControlServer implements Disposable {
  readonly #server: Server;
  readonly #path: string;
  readonly #sockets: Set<Socket> = new Set();

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.#path = path;
    server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    // A machine that has nothing else to do may end.
    server.unref();
  }

  /** @throws UserError BAD_ARGUMENT when the name cannot be had; FILE_NOT_WRITABLE. */
  static async open(name: string, handle: ControlHandler): Promise<ControlServer> {
    const path = socketPath(name);
    const server = createServer((socket) => serve(socket, handle));
    try {
      ownDirectory();
      if (await isAnswered(path)) throw new UserError("BAD_ARGUMENT", `There is a machine called "${name}" already: choose another name.`);
      rmSync(path, { force: true });
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(path, resolve);
      });
    } catch (cause) {
      server.close();
      if (cause instanceof UserError) throw cause;
      throw new UserError("FILE_NOT_WRITABLE", `The socket ${path} cannot be made (${codeOf(cause)}): set XDG_RUNTIME_DIR to a directory of yours.`, { cause });
    }
    return new ControlServer(server, path);
  }

  [Symbol.dispose](): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    rmSync(this.#path, { force: true });
  }
}

/** The directory is this user's alone: whoever may connect may command the machine. */
function ownDirectory(): void {
  const directory = socketDirectory();
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const stats = lstatSync(directory);
  if (!stats.isDirectory() || stats.uid !== userInfo().uid) {
    throw new UserError("FILE_NOT_WRITABLE", `The directory ${directory} belongs to somebody else: set XDG_RUNTIME_DIR to a directory of yours.`);
  }
  chmodSync(directory, 0o700);
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

function serve(socket: Socket, handle: ControlHandler): void {
  const answer = (line: Json): void => void (socket.destroyed ? undefined : socket.write(`${JSON.stringify(line)}\n`));
  // Whoever asked has gone: what was begun is finished all the same, if it comes to an end.
  const gone = new AbortController();
  socket.on("error", () => {});
  socket.on("close", () => gone.abort());
  readLines(socket, (line) => {
    const request = parse(line);
    if (request === undefined || typeof request["verb"] !== "string") {
      answer({ error: { code: "BAD_ARGUMENT", message: "A request is an object with a verb." } });
      socket.end();
      return;
    }
    handle(request as ControlRequest, (progress) => answer({ progress }), gone.signal).then((result) => answer({ result }), (error: unknown) => {
      const { code, message } = error instanceof UserError ? error : { code: internalError, message: String(error) };
      answer({ error: { code, message } });
    }).finally(() => socket.end());
  });
}

/**
 * Asks the machine `name`; `signal` ends that.
 * @throws UserError BAD_ARGUMENT when there is no such machine; ABORTED when it ends first, or by `signal`; what the machine answers.
 */
export function ask(name: string, request: ControlRequest, onProgress: (progress: Json) => void = () => {}, signal?: AbortSignal): Promise<Json> {
  const path = socketPath(name);
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once("connect", () => socket.write(`${JSON.stringify(request)}\n`));
    socket.once("error", (cause) => {
      const others = machineNames().filter((other) => other !== name);
      const hint = others.length === 0 ? "start one with: ringmaster run --name NAME" : `there ${others.length === 1 ? "is" : "are"} ${others.join(", ")}`;
      reject(new UserError("BAD_ARGUMENT", `There is no machine called "${name}"; ${hint}.`, { cause }));
    });
    signal?.addEventListener("abort", () => socket.destroy(), { once: true });
    socket.once("close", () => reject(new UserError("ABORTED", `The machine "${name}" ended before it had answered.`)));
    readLines(socket, (line) => {
      const answer = parse(line) ?? {};
      const error = answer["error"];
      if (answer["progress"] !== undefined) onProgress(answer["progress"]);
      else if (error !== undefined && isObject(error)) reject(errorOf(error));
      else if (answer["result"] !== undefined) resolve(answer["result"]);
    });
  });
}

function errorOf({ code, message }: { readonly [name: string]: Json }): Error {
  const text = typeof message === "string" ? message : "the machine did not say why";
  return code === internalError ? new Error(text) : new UserError(code as UserErrorCode, text);
}

function readLines(socket: Socket, onLine: (line: string) => void): void {
  let pending = "";
  socket.setEncoding("utf8");
  socket.on("data", (text: string) => {
    const lines = (pending + text).split("\n");
    pending = lines.pop() ?? "";
    if (pending.length > maximumLineBytes) socket.destroy();
    for (const line of lines) onLine(line);
  });
}

function parse(line: string): { readonly [name: string]: Json } | undefined {
  try {
    const json = JSON.parse(line) as Json;
    return isObject(json) ? json : undefined;
  } catch {
    return undefined;
  }
}

function codeOf(cause: unknown): string {
  return cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
}
