// Piscina tasks: a configuration of thousands of rules is read, and edited, off the main thread: it takes a second.
import "./priority.js";
import { checkConfig, type Checked } from "../config/check.js";
import { rewriteRules, type RuleEdit } from "../config/rewrite.js";

export interface CheckTask {
  bytes: Uint8Array;
  file: string;
}

export function check({ bytes, file }: CheckTask): Checked {
  return checkConfig(bytes, file);
}

export interface RewriteTask {
  text: string;
  edit: RuleEdit;
}

export function rewrite({ text, edit }: RewriteTask): string | null {
  return rewriteRules(text, edit);
}
