// The daemon's log: one JSON object a line on standard error, event names stable. Made by the run command; main thread.
import { pino, type DestinationStream, type Logger } from "pino";
import type { Level } from "../pipeline/events.js";

export interface Log {
  write(level: Level, event: string, detail: string, fields: object): void;
  setLevel(level: string): void;
}

export function makeLog(level: string, destination: DestinationStream): Log {
  const logger: Logger = pino(
    {
      level,
      base: { pid: process.pid },
      formatters: { level: (label) => ({ level: label }) },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
    },
    destination,
  );
  return {
    write: (at, event, detail, fields) => logger[at]({ event, ...fields }, detail),
    setLevel(next) {
      logger.level = next;
    },
  };
}
