// Numbers for people. Pure; used by the live line, the final statistics and the command line's tables.

/** 1234567 as "1.23 M". */
export function count(value: number): string {
  const units = ["", "k", "M", "G", "T"];
  let unit = 0;
  let rest = value;
  while (rest >= 999.5 && unit < units.length - 1) {
    rest /= 1000;
    unit++;
  }
  if (unit === 0) return `${Math.round(rest)} `;
  return `${rest.toFixed(rest < 9.995 ? 2 : rest < 99.95 ? 1 : 0)} ${units[unit] ?? ""}`;
}

export function bits(perSecond: number): string {
  return `${(perSecond / 1e6).toFixed(perSecond < 99.95e6 ? 1 : 0)} Mbps`;
}

/** 1234567 as "1,234,567". Without Intl, whose first use costs every command 30 ms. */
export function whole(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Columns padded to their widest cell; numbers to the right. */
export function table(header: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const right = header.map((_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === "number"));
  const cells = [header, ...rows.map((row) => row.map((cell) => (typeof cell === "number" ? whole(cell) : cell)))];
  const widths = header.map((_, column) =>
    cells.reduce((widest, row) => Math.max(widest, row[column]?.length ?? 0), 0),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) =>
        right[column] === true ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join("  ")
      .trimEnd();
  return cells.map(line).join("\n");
}
