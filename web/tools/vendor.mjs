// Fills web/vendor/ from the packages named in package-lock.json and writes vendor.lock.json.
//
//   node tools/vendor.mjs           (after `npm ci`) rewrites vendor/
//   node tools/vendor.mjs --check   fails if vendor/ is not what the packages and this script give;
//                                   without node_modules it checks the digests of the lock only
//
// The browser gets no build step and no import map: bare module names are rewritten to relative
// ones, references to source maps are cut off, and each rewrite is recorded in the lock.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const VENDOR = join(ROOT, 'vendor');
const MODULES = join(ROOT, 'node_modules');

/** Bare module name → file in vendor/. */
const TARGETS = new Map([
  ['preact', './preact.js'],
  ['preact/hooks', './preact-hooks.js'],
  ['@preact/signals-core', './signals-core.js'],
  ['htm', './htm.js'],
]);

/**
 * What is taken from each package. `typed` names the module whose types stand for the file in
 * `tsc --checkJs`; `append` is added at the end.
 */
const PACKAGES = [
  {
    name: 'preact',
    licence_file: 'LICENSE',
    files: [
      { from: 'dist/preact.module.js', to: 'preact.js', typed: 'preact' },
      { from: 'hooks/dist/hooks.module.js', to: 'preact-hooks.js', typed: 'preact/hooks' },
    ],
  },
  {
    name: '@preact/signals-core',
    licence_file: 'LICENSE',
    files: [{ from: 'dist/signals-core.module.js', to: 'signals-core.js', typed: '@preact/signals-core' }],
  },
  {
    name: '@preact/signals',
    licence_file: 'LICENSE',
    files: [{ from: 'dist/signals.module.js', to: 'signals.js', typed: '@preact/signals' }],
  },
  {
    name: 'htm',
    licence_file: 'LICENSE',
    files: [
      { from: 'dist/htm.module.js', to: 'htm.js', typed: 'htm' },
      { from: 'preact/index.module.js', to: 'htm-preact.js', typed: 'htm/preact' },
    ],
  },
  {
    name: 'uplot',
    licence_file: 'LICENSE',
    files: [
      {
        from: 'dist/uPlot.iife.min.js',
        to: 'uplot.js',
        typed: 'uplot',
        append: '\nexport default uPlot;\n',
      },
      { from: 'dist/uPlot.min.css', to: 'uplot.css' },
    ],
  },
];

/** @param {string | Buffer} data */
const integrity = (data) => `sha384-${createHash('sha384').update(data).digest('base64')}`;

/**
 * Applies the rewrites to one file.
 * @param {string} text
 * @param {{append?: string}} file
 */
function rewrite(text, file) {
  /** @type {string[]} */
  const rewrites = [];
  let out = text.replace(/(from\s*|import\s*)(["'])([^"'./][^"']*)\2/g, (_all, head, quote, name) => {
    const target = TARGETS.get(name);
    if (!target) throw new Error(`no vendored file for the module "${name}": add it to TARGETS`);
    rewrites.push(`import "${name}" -> "${target}"`);
    return `${head}${quote}${target}${quote}`;
  });
  out = out.replace(/\n?\/\/# sourceMappingURL=\S+\s*$/, () => {
    rewrites.push('reference to the source map cut off');
    return '\n';
  });
  if (file.append) {
    out = out.trimEnd() + file.append;
    rewrites.push(`appended: ${file.append.trim()}`);
  }
  return { out, rewrites: [...new Set(rewrites)] };
}

/** Everything vendor/ shall hold: file name → text. */
async function generate() {
  /** @type {Map<string, string>} */
  const outputs = new Map();
  const lock = JSON.parse(await readFile(join(ROOT, 'package-lock.json'), 'utf8'));
  const packages = [];
  for (const wanted of PACKAGES) {
    const base = join(MODULES, wanted.name);
    const manifest = JSON.parse(await readFile(join(base, 'package.json'), 'utf8'));
    const locked = lock.packages[`node_modules/${wanted.name}`];
    if (locked?.version !== manifest.version) {
      throw new Error(`${wanted.name}: node_modules has ${manifest.version}, the lock ${locked?.version}: run npm ci`);
    }
    const licenceName = `${wanted.name.replace('@', '').replace('/', '-')}.LICENSE.txt`;
    outputs.set(licenceName, await readFile(join(base, wanted.licence_file), 'utf8'));
    const files = [];
    for (const file of wanted.files) {
      const { out, rewrites } = rewrite(await readFile(join(base, file.from), 'utf8'), file);
      outputs.set(file.to, out);
      files.push({ file: file.to, from: file.from, integrity: integrity(out), bytes: Buffer.byteLength(out), rewrites });
      if (file.typed) outputs.set(file.to.replace(/\.js$/, '.d.ts'), typesOf(file.typed));
    }
    packages.push({
      name: wanted.name,
      version: manifest.version,
      integrity: locked.integrity,
      licence: manifest.license,
      licence_file: licenceName,
      files,
    });
  }
  outputs.set('vendor.lock.json', `${JSON.stringify({ made_by: 'tools/vendor.mjs', packages }, null, 2)}\n`);
  return outputs;
}

/** @param {string} name */
function typesOf(name) {
  const note = `// For tsc --checkJs only: the types are those of the package "${name}".\n`;
  return name === 'uplot'
    ? `${note}import uPlot from 'uplot';\nexport default uPlot;\n`
    : name === 'htm'
      ? `${note}import htm from 'htm';\nexport default htm;\n`
      : `${note}export * from '${name}';\n`;
}

async function checkDigests() {
  const lock = JSON.parse(await readFile(join(VENDOR, 'vendor.lock.json'), 'utf8'));
  let bad = 0;
  for (const pkg of lock.packages) {
    for (const file of pkg.files) {
      if (integrity(await readFile(join(VENDOR, file.file))) !== file.integrity) {
        console.error(`vendor/${file.file} is not what vendor.lock.json says`);
        bad += 1;
      }
    }
  }
  return bad;
}

async function check() {
  let bad = await checkDigests();
  if (existsSync(join(MODULES, 'preact'))) {
    const outputs = await generate();
    for (const [name, text] of outputs) {
      const kept = await readFile(join(VENDOR, name), 'utf8').catch(() => null);
      if (kept !== text) {
        console.error(`vendor/${name} is stale: run node tools/vendor.mjs`);
        bad += 1;
      }
    }
    for (const name of await readdir(VENDOR)) {
      if (!outputs.has(name)) {
        console.error(`vendor/${name} belongs to no package: remove it`);
        bad += 1;
      }
    }
  }
  console.log(bad === 0 ? 'vendor: as locked' : `vendor: ${bad} files differ`);
  process.exitCode = bad === 0 ? 0 : 1;
}

if (process.argv.includes('--check')) {
  await check();
} else {
  const outputs = await generate();
  await rm(VENDOR, { recursive: true, force: true });
  await mkdir(VENDOR, { recursive: true });
  for (const [name, text] of outputs) await writeFile(join(VENDOR, name), text);
  console.log(`vendor: ${outputs.size} files written`);
}
