/** What the pages use of preact. Templates are untyped, so elements are, too. */
export interface Context<T> {
  Provider: (props: { value: T; children?: unknown }) => unknown;
  readonly initial: T;
}
export class Component {}
export const Fragment: unknown;
export const h: (...parts: any[]) => any;
export function createContext<T>(initial: T): Context<T>;
export function render(element: any, place: Element): void;
