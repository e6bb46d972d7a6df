// Who has, and had, which public ports: keeps the records of granted and released port blocks, in memory and, where
// nat.source.records.file says so, in a file. Fed ten times a second and on request by nat-control.ts; main thread.
//
// The packet path is told that records are done when they are on the disk. While they cannot be written it goes on until its
// own memory for them is full, and then grants no block; it goes on by itself when they can be written again.
//
// A file tells everything since its first line: what is granted is written as `held` when it is opened (start, logrotate),
// and what a run that is over left granted is written as released at the start of the next one. Its last moment is not known;
// the new start is what is certain, and nobody else had the ports before it.
import { setImmediate, setTimeout } from "node:timers/promises";
import { systemReason, VxpipeError } from "./errors.js";
import { makeEvent, type EventLog } from "./events.js";
import type { BlockRecord, NatRecord } from "./nat-names.js";
import type { Native } from "./native.js";
import { RecordLines } from "./record-lines.js";
import { linesBackward, linesWith, RecordsFile } from "./records-file.js";

/** A block of ports and whose it is or was; times in milliseconds. */
export interface Holding {
  vni: number | null;
  inside: string;
  outside: string;
  firstPort: number;
  lastPort: number;
  from: number;
  /** null: still. */
  to: number | null;
}

type LineKind = "start" | "stop" | "granted" | "released" | "held";

interface Line {
  time: string;
  event: LineKind;
  vni: number | null;
  inside: string;
  outside: string;
  firstPort: number;
  lastPort: number;
  from?: string;
}

/** Released ones that memory keeps, for those who have no file. */
const historyMax = 50_000;
const nothing = Buffer.alloc(0);
/** A journal's line has room for 48 KiB. */
const recordsALine = 100;
const lineEveryMs = 1;
/** Some milliseconds of this thread. */
const itemsAPiece = 1000;
/** Some 200,000 a second, in bursts that a collector's socket has room for. */
const [toldAtOnce, tellEveryMs] = [250, 1];
/** Of a block; it starts at a multiple of its size. */
const [portsMin, portsMax] = [64, 8192];
const diskTrouble = new Set(["ENOSPC", "EDQUOT", "EROFS", "EIO"]);

export class BlockLog {
  private readonly file: RecordsFile | null;
  /** By address and first port. More than one only while the records of two workers are out of order. */
  private readonly held = new Map<string, Holding[]>();
  private history: Holding[] = [];
  private failing: string | null = null;
  /** The file begins with what is held. */
  private begun = false;
  /** What the end of a packet path left to be written, and whose blocks it releases. */
  private owed = nothing;
  private ended: Holding[] = [];
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    path: string | null,
    private readonly events: EventLog,
    native: Pick<Native, "lockFile">,
    private readonly now: () => number = Date.now,
    /** Told of everything once: when it is durable, or at the end also what the file is still owed. */
    private readonly told: ((records: readonly NatRecord[]) => void) | null = null,
  ) {
    this.file = path === null ? null : new RecordsFile(path, native);
  }

  /** Opens the file and closes what the run before left open. A disk in trouble is no reason not to start: then nothing is
   * granted until it is well. */
  start(): Promise<void> {
    return this.inTurn(async () => {
      if (this.file === null) return;
      try {
        await this.begin(this.file);
      } catch (error) {
        if (error instanceof VxpipeError) throw error;
        if (!diskTrouble.has((error as NodeJS.ErrnoException).code ?? "")) {
          const message = `nat.source.records.file ${this.file.path}: ${systemReason(error)}`;
          throw new VxpipeError("RECORDS_UNWRITABLE", message, { cause: error });
        }
        this.fail(this.file, error);
      }
    });
  }

  /** Oldest first. False: they are not on the disk; they are to be given again. */
  add(records: readonly NatRecord[]): Promise<boolean> {
    return this.inTurn(async () => {
      if (!(await this.write(this.linesOf(records).all))) return false;
      for (const record of records) this.apply(record);
      this.told?.(records);
      return true;
    });
  }

  /** Nothing is held any more: the packet path has ended. Its memory is gone, so what cannot be written now is owed. */
  end(records: readonly NatRecord[]): Promise<void> {
    return this.inTurn(async () => {
      const ended = [...this.held.values()].flat();
      const lines = this.linesOf(records);
      for (const record of records) this.apply(record);
      const time = this.now();
      const left = [...this.held.values()].flat();
      await inPieces(left, (one) => {
        lines.add(lineText("released", time, one, one.from));
        this.close(one, time);
      });
      if (this.file !== null) {
        this.owed = Buffer.concat([this.owed, lines.all]);
        this.ended = this.ended.concat(ended);
        await this.write(nothing);
      }
      await this.tell(records.concat(left.map((one) => ({ ...one, time, granted: false }))));
    });
  }

  stop(): Promise<void> {
    return this.inTurn(async () => {
      const last = new RecordLines();
      last.add(JSON.stringify({ time: new Date(this.now()).toISOString(), event: "stop" }));
      if (!(await this.write(last.all)) && this.owed.length > 0) await this.tellOwed();
      await this.file?.close();
    });
  }

  /** The log is the last place for them: in lines that a journal takes whole, and no faster than it can. */
  private async tellOwed(): Promise<void> {
    const records = this.owed.toString().trimEnd().split("\n");
    const text = `${records.length} records could not be written before the end; they are in the log`;
    this.events.emit("nat_records_failed", text, { records: records.length });
    for (let at = 0; at < records.length; at += recordsALine) {
      const some = records.slice(at, at + recordsALine);
      const detail = `records ${at + 1} to ${at + some.length} of ${records.length}`;
      const time = new Date(this.now()).toISOString();
      this.events.writeLog(makeEvent("nat_records_unwritten", time, detail, { records: some }));
      await setTimeout(lineEveryMs);
    }
  }

  /** After the file has been moved away. */
  reopen(): Promise<void> {
    return this.inTurn(async () => {
      this.begun = false;
      await this.write(nothing);
    });
  }

  /** The file cannot be written. */
  get lagging(): boolean {
    return this.failing !== null;
  }

  /** Who has, or at the time had, the port; null: nobody. */
  async who(outside: string, port: number, at: number | null): Promise<Holding | null> {
    const matches = (one: Holding): boolean =>
      one.outside === outside && port >= one.firstPort && port <= one.lastPort && wasAt(one, at);
    for (let size = portsMin; size <= portsMax; size *= 2) {
      const list = this.held.get(keyOf({ outside, firstPort: port - (port % size) }));
      const one = list?.findLast(matches); // whoever had it before has released it
      if (one !== undefined) return one;
    }
    if (at === null) return null;
    const known = this.history.find(matches);
    if (known !== undefined) return known;
    return this.file === null ? null : searchRecords(this.file.path, outside, port, at);
  }

  get size(): number {
    return this.held.size;
  }

  private inTurn<Value>(work: () => Promise<Value>): Promise<Value> {
    const next = this.turn.then(work);
    this.turn = next.catch(() => undefined);
    return next;
  }

  private async write(lines: Buffer): Promise<boolean> {
    const { file } = this;
    if (file === null) return true;
    try {
      if (!file.isOpen || !this.begun || (await file.isGone())) await this.begin(file);
      const bytes = this.owed.length === 0 ? lines : Buffer.concat([this.owed, lines]);
      if (bytes.length > 0) await file.append(bytes);
      this.owed = nothing;
      this.ended = [];
    } catch (error) {
      this.fail(file, error);
      return false;
    }
    if (this.failing !== null) {
      this.failing = null;
      this.events.emit("nat_records_resumed", `${file.path} is written again; nothing is missing in it`);
    }
    return true;
  }

  private fail(file: RecordsFile, error: unknown): void {
    const reason = systemReason(error);
    if (this.failing === reason) return;
    this.failing = reason;
    const meanwhile = "records wait in memory; when that is full no port block is granted until it can be written";
    this.events.emit("nat_records_failed", `${file.path}: ${reason}; ${meanwhile}`, { file: file.path });
  }

  /** Opens it; what is open in it and not held belonged to a run that is over. */
  private async begin(file: RecordsFile): Promise<void> {
    await file.open();
    const time = this.now();
    const { open, latest } = await openIn(file.path);
    // A clock may have been put back since.
    const over = Math.max(time, latest);
    const own = [...this.held.values()].flat();
    const known = new Set<string>();
    await inPieces([...own, ...this.ended], (one) => known.add(identity(one)));
    const left: Holding[] = [];
    const lines = new RecordLines();
    lines.add(JSON.stringify({ time: new Date(time).toISOString(), event: "start" }));
    await inPieces(open, (one) => {
      if (known.has(identity(one))) return;
      left.push(one);
      lines.add(lineText("released", one.to ?? over, one, one.from));
    });
    await inPieces(own, (one) => lines.add(lineText("held", time, one, one.from)));
    await file.append(lines.all);
    this.begun = true;
    for (const one of left) this.remember({ ...one, to: one.to ?? over });
    await this.tell(left.map((one) => ({ ...one, time: one.to ?? over, granted: false })));
  }

  /** All that ends at once, no faster than it can be taken. */
  private async tell(records: readonly NatRecord[]): Promise<void> {
    if (this.told === null) return;
    for (let at = 0; at < records.length; at += toldAtOnce) {
      this.told(records.slice(at, at + toldAtOnce));
      await setTimeout(tellEveryMs);
    }
  }

  private linesOf(records: readonly NatRecord[]): RecordLines {
    const lines = new RecordLines(records.length);
    const granted = new Map<string, number>();
    for (const record of records) {
      if ("granted" in record) lines.add(this.blockText(record, granted));
      else lines.addSession(record);
    }
    return lines;
  }

  /** `granted`: since when, of those that the same records granted. */
  private blockText(block: BlockRecord, granted: Map<string, number>): string {
    const { time } = block;
    const key = holderOf(block);
    if (block.granted) {
      granted.set(key, time);
      return lineText("granted", time, block, null);
    }
    const from = granted.get(key) ?? this.holdingOf(block)?.from ?? null;
    granted.delete(key);
    return lineText("released", time, block, from);
  }

  private holdingOf(block: Block): Holding | undefined {
    return this.held.get(keyOf(block))?.find((one) => one.inside === block.inside && one.vni === block.vni);
  }

  private apply(record: NatRecord): void {
    if (!("granted" in record)) return;
    const { granted, time, ...block } = record;
    if (!granted) {
      const one = this.holdingOf(block);
      return one === undefined ? undefined : this.close(one, time);
    }
    const key = keyOf(block);
    this.held.set(key, [...(this.held.get(key) ?? []), { ...block, from: time, to: null }]);
  }

  private close(holding: Holding, time: number): void {
    const key = keyOf(holding);
    const rest = (this.held.get(key) ?? []).filter((one) => one !== holding);
    if (rest.length === 0) this.held.delete(key);
    else this.held.set(key, rest);
    this.remember({ ...holding, to: time });
  }

  private remember(holding: Holding): void {
    this.history.push(holding);
    if (this.history.length > historyMax * 2) this.history = this.history.slice(-historyMax);
  }
}

/** Others have their turn between: a large pool has hundreds of thousands of blocks. */
async function inPieces<Item>(items: readonly Item[], work: (item: Item) => void): Promise<void> {
  for (let at = 0; at < items.length; at += itemsAPiece) {
    items.slice(at, at + itemsAPiece).forEach(work);
    await setImmediate();
  }
}

type Block = Pick<Holding, "vni" | "inside" | "outside" | "firstPort" | "lastPort">;

function keyOf({ outside, firstPort }: Pick<Block, "outside" | "firstPort">): string {
  return `${outside}:${firstPort}`;
}

function holderOf(block: Block): string {
  return `${keyOf(block)} ${block.vni} ${block.inside}`;
}

function identity(one: Holding): string {
  return `${holderOf(one)} ${one.from}`;
}

function wasAt({ from, to }: Holding, at: number | null): boolean {
  return at === null ? to === null : from <= at && (to === null || at < to);
}

function lineText(event: LineKind, time: number, block: Block, from: number | null): string {
  const { vni, inside, outside, firstPort, lastPort } = block;
  const since = from === null ? {} : { from: new Date(from).toISOString() };
  return JSON.stringify({
    time: new Date(time).toISOString(),
    event,
    vni,
    inside,
    outside,
    firstPort,
    lastPort,
    ...since,
  });
}

/** There may be millions of them: told without parsing. */
function isOfSession(text: string): boolean {
  return text.includes('"event":"created"') || text.includes('"event":"ended"');
}

/** Null: not a line of ours about a block. */
function parseLine(text: string): Line | null {
  try {
    const line = JSON.parse(text) as Partial<Line>;
    return typeof line.outside === "string" && typeof line.firstPort === "number" ? (line as Line) : null;
  } catch {
    return null;
  }
}

function holdingOf(line: Line, to: number | null): Holding {
  const { vni, inside, outside, firstPort, lastPort, time, from } = line;
  return { vni, inside, outside, firstPort, lastPort, from: Date.parse(from ?? time), to };
}

/** What was granted and not released when the file ends, until somebody else was granted it if that is there. Read from its
 * end to the start of its last run: what was granted before that has been told again, or released, there. */
async function openIn(path: string): Promise<{ open: Holding[]; latest: number }> {
  const over = new Set<string>();
  const nextFrom = new Map<string, number>();
  const open: Holding[] = [];
  let latest = -Infinity;
  for await (const text of linesBackward(path)) {
    if (text.includes('"event":"start"')) break;
    const line = isOfSession(text) ? null : parseLine(text);
    if (line === null) continue;
    const time = Date.parse(line.time);
    if (time > latest) latest = time;
    const [block, holder] = [keyOf(line), holderOf(line)];
    const holding = holdingOf(line, nextFrom.get(block) ?? null);
    if (!over.has(holder) && line.event !== "released") open.push(holding);
    over.add(holder);
    if (line.event !== "released") nextFrom.set(block, holding.from);
  }
  return { open: open.toReversed(), latest };
}

/** Of records in a file: who had the port then. */
export async function searchRecords(path: string, outside: string, port: number, at: number): Promise<Holding | null> {
  const open = new Map<string, Holding>();
  for await (const text of linesWith(path, `"outside":"${outside}"`)) {
    const line = parseLine(text);
    if (line === null || line.outside !== outside || port < line.firstPort || port > line.lastPort) continue;
    const key = `${line.vni} ${line.inside}`;
    if (line.event !== "released") {
      open.delete(key);
      open.set(key, holdingOf(line, null));
      continue;
    }
    const from = line.from === undefined ? (open.get(key)?.from ?? Date.parse(line.time)) : Date.parse(line.from);
    open.delete(key);
    const holding = { ...holdingOf(line, Date.parse(line.time)), from };
    if (wasAt(holding, at)) return holding;
  }
  return [...open.values()].findLast((one) => wasAt(one, at)) ?? null;
}
