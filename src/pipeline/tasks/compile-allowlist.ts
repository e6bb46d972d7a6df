// Piscina task: compiles an allowlist off the main thread, so that a million entries do not stall the control plane.
// The text arrives and the tables leave without being copied.
import { move, transferableSymbol, valueSymbol } from "piscina";
import { compileAllowlist, type CompileResult } from "../allowlist/compile.js";

export interface CompileTask {
  bytes: Uint8Array;
  file: string;
}

export default function task({ bytes, file }: CompileTask): unknown {
  const result = compileAllowlist(bytes, file);
  if (!result.ok) return result;
  const { entries, compiled } = result.value;
  // A table without covered entries may be the very same buffer in both.
  const buffers = new Set([...Object.values(entries), ...Object.values(compiled)].map((table) => table.buffer));
  return move(transferable(result, [...buffers]));
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
