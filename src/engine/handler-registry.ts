/**
 * Numbers of handlers and routines, which all processors of a process share: neither is ever changed, and code that was
 * generated for one processor can serve another.
 */
import { invariant } from "../base/errors.ts";
import type { Routine } from "../ir/index.ts";
import type { InstructionDefinition } from "../isa/definition.ts";
import { handlerName, makeHandler, type Handler, type HandlerForm } from "./handler.ts";

/** A handler with its number in records. */
export interface RegisteredHandler {
  readonly handler: Handler;
  readonly number: number;
}

/** Lower numbers have a meaning of their own. */
const firstHandler = 5;
export const maximumHandlers = 65_536;

const handlersByKey = new Map<string, RegisteredHandler>();
const handlersByNumber: Handler[] = [];
const definitionNumbers = new WeakMap<InstructionDefinition, number>();
let definitionCount = 0;
const routines: Routine[] = [];
const routineNumbers = new Map<Routine, number>();

/** The same for forms with the same code, and for no others. */
function keyOf(form: HandlerForm): string {
  let number = definitionNumbers.get(form.definition);
  if (number === undefined) {
    number = definitionCount++;
    definitionNumbers.set(form.definition, number);
  }
  return `${number}:${handlerName(form)}`;
}

/** The handler for a form, made on first use. */
export function registeredHandler(form: HandlerForm): RegisteredHandler {
  const key = keyOf(form);
  const known = handlersByKey.get(key);
  if (known !== undefined) return known;
  const number = firstHandler + handlersByKey.size;
  invariant(number < maximumHandlers, "handler numbers are used up");
  const made = { handler: makeHandler(form), number };
  handlersByKey.set(key, made);
  handlersByNumber[number] = made.handler;
  return made;
}

/** Undefined for the special numbers. */
export function handlerOfNumber(number: number): Handler | undefined {
  return handlersByNumber[number];
}

export function routineNumber(routine: Routine): number {
  let number = routineNumbers.get(routine);
  if (number === undefined) {
    number = routines.push(routine) - 1;
    routineNumbers.set(routine, number);
  }
  return number;
}

export function routineOfNumber(number: number): Routine {
  return routines[number];
}
