// Piscina tasks: what takes long with lists of a million, done off the main thread, so that it does not stall the control
// plane. Texts arrive and tables leave without being copied.
import "./priority.js";
import type { CompiledAllowlist } from "xdp-socket";
import { move, transferableSymbol, valueSymbol } from "piscina";
import { compileAllowlist, type CompileResult } from "../allowlist/compile.js";
import { rewriteList, type ListEdit } from "../allowlist/rewrite.js";
import * as table from "../allowlist/table.js";

export interface CompileTask {
  bytes: Uint8Array;
  file: string;
  skipInvalid: boolean;
  progress: Int32Array;
}

export function compile({ bytes, file, skipInvalid, progress }: CompileTask): unknown {
  const result = compileAllowlist(bytes, file, { skipInvalid, progress });
  if (!result.ok) return result;
  const { entries, compiled, owners } = result.value;
  // A table without covered entries may be the very same buffer in both.
  const tables: (Uint8Array | Uint32Array)[] = [entries, compiled, owners?.of ?? {}].flatMap((one) =>
    Object.values(one),
  );
  return move(transferable(result, [...new Set(tables.map(({ buffer }) => buffer))]));
}

export interface RewriteTask {
  bytes: Uint8Array;
  edit: ListEdit;
}

export function rewrite({ bytes, edit }: RewriteTask): Uint8Array | null {
  return rewriteList(bytes, edit);
}

export interface DifferenceTask {
  from: CompiledAllowlist;
  to: CompiledAllowlist;
}

export function difference({ from, to }: DifferenceTask): { added: number; removed: number } {
  return table.difference(from, to);
}

function transferable(value: CompileResult, list: ArrayBufferLike[]): Parameters<typeof move>[0] {
  return {
    get [transferableSymbol]() {
      return list;
    },
    get [valueSymbol]() {
      return value;
    },
  } as unknown as Parameters<typeof move>[0];
}
