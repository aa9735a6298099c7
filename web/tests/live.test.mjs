// What arrives, what is filtered, what is paused, what breaks and comes back.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { HOSTILE } from './mock-scene.mjs';
import { drawn, eventually, goTo, MOCK_ONLY, PATIENCE_MS, REAL, start, stop, VIEWS, withPage } from './harness.mjs';

/** Heap that may differ between two equal floods. */
const HEAP_GROWTH_MAX_BYTES = 3_000_000;

before(start);
after(stop);

/** @param {import('playwright-core').Page} page */
const connected = (page) => page.locator('.live-live, .live-quiet').waitFor();

/** A packet like the mock's own, with an address of its own. @param {any} mock @param {Record<string, unknown>} changes */
function packetLike(mock, changes) {
  return { ...mock.scene.packetList[0], id: `t${Math.random()}`, unix_ms: Date.now(), ...changes };
}

/** Waits for `text` in main and answers how long it took: printed, never judged, on machines that others share. @param {import('playwright-core').Page} page @param {string} text @param {() => void} act */
async function timed(page, text, act) {
  const shown = page.waitForFunction((wanted) => document.querySelector('main')?.textContent?.includes(wanted), text, { polling: 20 });
  const begin = performance.now();
  act();
  await shown;
  return performance.now() - begin;
}

test('a packet is on the screen soon after its event', MOCK_ONLY, async () => {
  await withPage({ hash: 'packets' }, async (page, mock) => {
    await connected(page);
    const took = await timed(page, '198.51.100.77', () => mock.push('packets', [packetLike(mock, { src_ip: '198.51.100.77' })]));
    console.log(`packet: shown after ${took.toFixed(0)} ms`);
    assert.match((await page.locator('tbody tr').first().textContent()) ?? '', /198\.51\.100\.77/);
  });
});

test('a flow and a second of traffic are on the screen soon after their events', MOCK_ONLY, async () => {
  await withPage({ hash: 'overview' }, async (page, mock) => {
    await connected(page);
    // The stored seconds are in: they replace live ones. The tile shows only a second of just now, which they no longer are where
    // loading took its time, so live ones come until one is shown.
    await page.waitForFunction(() => document.querySelector('[role=slider]')?.getAttribute('aria-valuetext')?.includes('Download'));
    const flow = { ...mock.scene.flowList[0], flow_id: 'fresh', verdict: 'SUSPICIOUS', kind: 'port-scan', src_ip: '198.51.100.78', last_unix_ms: Date.now() };
    const tookFlow = await timed(page, '198.51.100.78', () => mock.push('flows', [flow]));
    const push = () => {
      const unix_ms = Math.floor(Date.now() / 1000) * 1000 + 1000;
      mock.push('traffic', { unix_ms, sensor: 's', interface: 'eth0', rx_bytes: 777_000_000, tx_bytes: 1, rx_packets: 5, tx_packets: 5, lost_packets: 0 });
    };
    const pushing = setInterval(push, 1000);
    const tookTraffic = await timed(page, '777\u00a0MB/s', push).finally(() => clearInterval(pushing));
    console.log(`flow: shown after ${tookFlow.toFixed(0)} ms; second of traffic: ${tookTraffic.toFixed(0)} ms`);
  });
});

test('the overview says what the API says', MOCK_ONLY, async () => {
  await withPage({}, async (page, _mock, base) => {
    const totals = await (await fetch(`${base}/api/totals`)).json();
    const tile = async (/** @type {string} */ name) => ((await page.locator(`[data-tile=${name}]`).textContent()) ?? '').replace(/[\u00a0\u202f]/g, '');
    await page.locator('[data-tile=total]', { hasText: /\d{2}/ }).waitFor();
    await eventually(async () => {
      assert.ok((await tile('total')).includes(String(totals.rx_packets + totals.tx_packets)));
      assert.ok((await tile('suspicious')).includes(String(totals.verdicts.SUSPICIOUS)));
      assert.ok((await tile('suspicious')).includes(`${totals.verdicts.UNSURE} unsure`));
      assert.match(await tile('lost'), /^Not analysed126.*ring full$/);
    });
    const frames = ((await page.locator('section', { has: page.locator('#frames') }).textContent()) ?? '').replace(/[\u00a0\u202f]/g, '');
    for (const wanted of [`${totals.frames} seen`, `analysed${totals.recorded}`, `counted by flow${totals.mapped}`, 'lost: ring full126', 'not IP: ARP5512']) {
      assert.ok(frames.replace(/\s/g, '').includes(wanted.replace(/\s/g, '')), `${wanted} in ${frames}`);
    }
  });
});

test('a packet leads to the reasons of its flow without leaving the list', MOCK_ONLY, async () => {
  await withPage({ hash: 'packets?verdict=SUSPICIOUS' }, async (page) => {
    await page.locator('td button', { hasText: 'Why' }).first().click();
    await page.locator('dialog[open] .reasons li').first().waitFor();
    await page.keyboard.press('Escape');
    await page.locator('dialog').waitFor({ state: 'detached' });
    assert.match(page.url(), /#\/packets\?verdict=SUSPICIOUS$/);
  });
});

test('hostile text is shown as text', MOCK_ONLY, async () => {
  await withPage({ mock: { hostile: true } }, async (page, mock) => {
    await connected(page);
    for (const view of VIEWS) {
      await goTo(page, view);
      mock.push('event', { ...mock.scene.eventList[0], unix_ms: Date.now(), message: HOSTILE.join(' ') });
      mock.push('flows', [{ ...mock.scene.flowList.find((/** @type {any} */ f) => f.verdict === 'SUSPICIOUS'), flow_id: `h${view}`, kind: HOSTILE[1] }]);
    }
    await goTo(page, 'flows?verdict=SUSPICIOUS');
    await page.locator('td button', { hasText: 'Why' }).first().click();
    await page.locator('dialog[open] .reasons').waitFor();
    assert.match((await page.locator('dialog .reasons').textContent()) ?? '', /<img src=x/);
    await page.keyboard.press('Escape');
    // Closing changes the address, which must not happen amid the next change of it.
    await page.locator('dialog').waitFor({ state: 'detached' });
    await goTo(page, 'events');
    await page.waitForFunction((text) => document.querySelector('main')?.textContent?.includes(text), HOSTILE[0]);
    const traces = await page.evaluate(() => ({ hacked: '__hacked' in window, scripts: document.querySelectorAll('main script, main img').length }));
    assert.deepEqual(traces, { hacked: false, scripts: 0 });
  });
});

test('filters are in the address, reach the API and the exports, and hold for what arrives', MOCK_ONLY, async () => {
  await withPage({ hash: 'packets' }, async (page, mock) => {
    await connected(page);
    await page.getByLabel('Verdict').selectOption('SUSPICIOUS');
    await page.getByLabel('Address').fill('203.0.113.66');
    await page.waitForURL(/verdict=SUSPICIOUS&address=203\.0\.113\.66/);
    await page.waitForFunction(() => {
      const words = [...document.querySelectorAll('tbody .verdict-word')].map((w) => w.textContent);
      return words.length > 0 && words.every((w) => w === 'suspicious');
    });
    await eventually(async () => {
      assert.ok(mock.log.some((one) => one.path.startsWith('/api/packets?') && one.path.includes('verdict=SUSPICIOUS') && one.path.includes('address=203.0.113.66')));
      const csv = await page.getByRole('link', { name: 'CSV' }).getAttribute('href');
      assert.equal(csv, '/api/export/packets.csv?verdict=SUSPICIOUS&address=203.0.113.66');
    });
    mock.push('packets', [
      packetLike(mock, { src_ip: '203.0.113.66', dst_ip: '10.9.9.1', verdict: 'NORMAL' }),
      packetLike(mock, { src_ip: '203.0.113.66', dst_ip: '10.9.9.2', verdict: 'SUSPICIOUS' }),
    ]);
    await page.locator('tbody', { hasText: '10.9.9.2' }).waitFor();
    assert.doesNotMatch((await page.locator('tbody').textContent()) ?? '', /10\.9\.9\.1/);
    await page.reload();
    await eventually(async () => assert.equal(await page.getByLabel('Address').inputValue(), '203.0.113.66', 'a link keeps the filters'));
    await page.getByRole('button', { name: 'Clear filters' }).click();
    await page.waitForURL(/#\/packets$/);
  });
});

test('a filter that nothing matches says so', MOCK_ONLY, async () => {
  await withPage({ hash: 'flows?address=192.0.2.250' }, async (page) => {
    await page.getByText('No flow matches these filters').waitFor();
  });
});

test('a talker leads to its flows', MOCK_ONLY, async () => {
  await withPage({ hash: 'talkers?by=port' }, async (page) => {
    await page.getByRole('link', { name: '443/tcp' }).click();
    await page.waitForURL(/#\/flows\?port=443&protocol=tcp$/);
    // Not the first row of any table: the address changes before the view.
    await page.locator('tbody tr', { hasText: ':443' }).first().waitFor();
    await goTo(page, 'talkers');
    await page.getByRole('link', { name: '1.1.1.1' }).click();
    await page.waitForURL(/#\/flows\?address=1\.1\.1\.1$/);
  });
});

test('older rows come on demand', MOCK_ONLY, async () => {
  await withPage({ hash: 'packets' }, async (page) => {
    await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 100);
    await page.getByRole('button', { name: 'Load older' }).click();
    await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 200);
    // With their date, since midnight may lie between them.
    const times = await page.locator('tbody tr td:first-child span').evaluateAll((cells) => cells.map((cell) => cell.getAttribute('title')));
    assert.deepEqual(times, [...times].sort().reverse(), 'newest first');
  });
});

test('pause holds the display still and resume catches up', MOCK_ONLY, async () => {
  await withPage({ hash: 'packets' }, async (page, mock) => {
    await connected(page);
    await page.getByRole('button', { name: 'Pause' }).click();
    await page.locator('.live-paused').waitFor();
    mock.push('packets', [packetLike(mock, { src_ip: '198.51.100.79' })]);
    await page.waitForTimeout(700);
    assert.doesNotMatch((await page.locator('main').textContent()) ?? '', /198\.51\.100\.79/);
    await page.getByRole('button', { name: 'Resume' }).first().click();
    await page.locator('tbody', { hasText: '198.51.100.79' }).waitFor();
  });
});

test('a lost collector is announced, and its return noticed', MOCK_ONLY, async () => {
  await withPage({ expected: /ERR_|Failed to load|EventSource/ }, async (page, mock) => {
    await connected(page);
    await page.locator('[data-tile=total]', { hasText: /\d{2}/ }).waitFor();
    mock.state.mode = 'down';
    mock.dropListeners();
    await page.getByRole('alert').filter({ hasText: 'No connection to the collector' }).waitFor();
    await page.locator('.live', { hasText: 'disconnected' }).waitFor();
    assert.equal(await page.locator('.tile').count(), 6, 'the last known figures stay');
    await page.getByRole('button', { name: 'Try now' }).click();
    mock.state.mode = 'normal';
    // By hand, unless the page was quicker by itself: the button is gone then.
    await Promise.any([page.getByRole('button', { name: 'Try now' }).click(), connected(page)]);
    await connected(page);
    await page.getByText('No connection to the collector').waitFor({ state: 'detached' });
  });
});

test('a failing collector is quoted', MOCK_ONLY, async () => {
  await withPage({ prepare: (mock) => (mock.state.mode = 'failing'), hash: 'flows', expected: /503|EventSource/ }, async (page) => {
    await page.getByText('the store is busy: try again in a few seconds').first().waitFor();
  });
});

test('without a sensor the page says what to do', MOCK_ONLY, async () => {
  await withPage({ prepare: (mock) => (mock.state.mode = 'empty') }, async (page) => {
    await page.getByText('No sensor has connected yet').waitFor();
    assert.match((await page.locator('main').textContent()) ?? '', /cargo xtask run/);
    await page.locator('.source', { hasText: 'NO SENSOR' }).waitFor();
  });
});

for (const [source, label] of [['bundled', 'BUNDLED REPLAY'], ['lab', 'LAB'], ['replay', 'REPLAY'], ['live', 'LIVE']]) {
  test(`the source ${source} is marked ${label}`, MOCK_ONLY, async () => {
    await withPage({ mock: { source } }, async (page) => {
      await eventually(async () => assert.ok((await page.locator('.source').textContent({ timeout: 1000 }))?.startsWith(label)));
    });
  });
}

for (const [source, label] of [['bundled', 'BUNDLED REPLAY: ENDED'], ['live', 'NO SENSOR']]) {
  test(`what an ended ${source} sensor left behind is marked ${label}`, MOCK_ONLY, async () => {
    await withPage({ mock: { source }, prepare: (mock) => (mock.state.mode = 'ended') }, async (page) => {
      await page.locator('.source', { hasText: label }).waitFor();
      // Stored packets are there, though none arrives.
      await page.locator('.ticker li').first().waitFor();
    });
  });
}

test('no verdict is never shown as normal', MOCK_ONLY, async () => {
  await withPage({ hash: 'flows?verdict=NO_VERDICT' }, async (page) => {
    await page.locator('tbody tr').first().waitFor();
    assert.deepEqual([...new Set(await page.locator('tbody .verdict-word').allTextContents())], ['no verdict']);
    await page.locator('td button').first().click();
    await page.locator('dialog', { hasText: 'does not mean that it is normal' }).waitFor();
    assert.doesNotMatch((await page.locator('dialog').textContent()) ?? '', /Probability of attack/);
  });
});

test('the panel of a flow gives reasons, model, false alarms and losses', MOCK_ONLY, async () => {
  await withPage({}, async (page, mock, base) => {
    const flow = { ...mock.scene.flowList.find((/** @type {any} */ f) => f.verdict === 'SUSPICIOUS'), flow_id: 'known', lost_meanwhile: 12, unrecorded_packets: 34 };
    mock.scene.flowList.unshift(flow);
    await page.goto(`${base}/#/flows?flow=known`);
    const text = async () => (await page.locator('dialog[open]').textContent()) ?? '';
    await page.locator('dialog[open] .reasons li').first().waitFor();
    assert.equal(await page.locator('dialog .reasons li').count(), flow.reasons.length);
    for (const wanted of [/all other features/, /\+0\.310/, /forest-2026-11-a1b2c3/, /0\.4 a day/, /12 packets were lost while this flow lived/, /34 of its packets were only counted/]) assert.match(await text(), wanted);
  });
});

test('the panel of a flow tells what is usual for its hosts, and where that is not known yet', MOCK_ONLY, async () => {
  await withPage({}, async (page, mock, base) => {
    const flow = { ...mock.scene.flowList.find((/** @type {any} */ f) => f.verdict === 'SUSPICIOUS'), src_ip: '192.0.2.9' };
    const farthest = { feature: 'src_ports_log2', value: 5.4, usual_low: 0, usual_high: 1.5 };
    const baseline = { initiator_known: true, responder_known: false, score: 4.2, limit: 3, new_port: true, first_contact: true, farthest };
    const unknown = { initiator_known: false, responder_known: false, score: 0, limit: 3, new_port: false, first_contact: false, farthest: null };
    const reasons = flow.reasons.map((/** @type {any} */ r) => ({ ...r, usual_low: null, usual_high: null }));
    mock.scene.flowList.unshift({ ...flow, flow_id: 'known', baseline }, { ...flow, flow_id: 'new', baseline: unknown, reasons }, { ...flow, flow_id: 'untold', baseline: null, reasons });
    const text = async (/** @type {string} */ id) => {
      await page.goto(`${base}/#/flows?flow=${id}`);
      await page.locator('dialog[open]', { hasText: id }).waitFor();
      return ((await page.locator('dialog[open]').textContent()) ?? '').replace(/[\u00a0\u202f]/g, ' ');
    };
    const known = await text('known');
    for (const wanted of ['unusual · score 4.2', 'usual for this host: 0 – 1.83', 'usual for this host: not known yet', 'the responder is not known yet', 'First contact', 'the responder answers on']) assert.ok(known.includes(wanted), `${wanted} in ${known}`);
    const unwatched = await text('new');
    assert.match(unwatched, /neither host has been watched for long enough/);
    assert.doesNotMatch(unwatched, /First contact|New port/);
    assert.doesNotMatch(await text('untold'), /usual/);
  });
});

test('the panel of a flow tells its path, its tunnel and its DNS numbers, and nothing where there is nothing', MOCK_ONLY, async () => {
  await withPage({}, async (page, mock, base) => {
    const plain = { also_seen_on: [], tunnel: null, icmp_errors: 0, icmp_last: null, dns: null };
    const flow = { ...mock.scene.flowList[0], ...plain, flow_id: 'bare', src_ip: 'fe80::1' };
    const told = {
      ...flow, flow_id: 'told', also_seen_on: ['eth1', 'veth\u202e7'],
      tunnel: { kind: 'gre', network_id: 7, src_ip: '192.0.2.1', dst_ip: '2001:db8::2', deeper: true },
      icmp_errors: 2, icmp_last: { type: 1, code: 4 },
      dns: { questions: 9, answers: 8, failures: 7, name_bytes: 34, labels: 3, digits: 1, query_type: 16, response_code: 3, answer_records: 0 },
    };
    mock.scene.flowList.unshift(flow, told);
    await page.goto(`${base}/#/flows?flow=told`);
    await page.locator('dialog[open]', { hasText: 'DNS numbers' }).waitFor();
    const text = ((await page.locator('dialog[open]').textContent()) ?? '').replace(/[\u00a0\u202f]/g, ' ');
    for (const wanted of [
      'eth1, veth\\u202e7', 'GRE · key 7', 'a tunnel inside as well', '192.0.2.1 → 2001:db8::2', 'port unreachable (type 1, code 4)',
      '8 · 7 failed', 'TXT · 34 characters · 3 labels · 1 digit', 'no such name · 0 records',
    ]) {
      assert.ok(text.includes(wanted), `${wanted} in ${text}`);
    }
    await page.goto(`${base}/#/flows?flow=bare`);
    await page.locator('dialog[open]', { hasText: 'bare' }).waitFor();
    assert.doesNotMatch((await page.locator('dialog[open]').textContent()) ?? '', /Path and tunnel|DNS numbers/);
    await page.goto(`${base}/#/flows`);
    await page.locator('tbody tr', { hasText: 'tunnel: GRE 7' }).waitFor();
  });
});

test('a traceroute shows its hops as they come', MOCK_ONLY, async () => {
  await withPage({ hash: 'diagnose' }, async (page) => {
    assert.equal(await page.getByLabel('Target').inputValue(), '8.8.8.8');
    await page.getByRole('button', { name: 'Traceroute' }).click();
    await page.locator('.hops tbody tr').first().waitFor();
    await page.locator('.hop-reached', { hasText: '8.8.8.8' }).waitFor();
    assert.equal(await page.locator('.hops tbody tr').count(), 5);
    assert.match((await page.locator('.hops').textContent()) ?? '', /no answer/);
    await page.getByRole('button', { name: 'Latency, jitter, loss' }).click();
    await page.locator('.diagnose-result .facts-row').waitFor();
    assert.match((await page.locator('.diagnose-result').textContent()) ?? '', /9 of 10 answered/);
  });
});

test('a refused command says why', MOCK_ONLY, async () => {
  await withPage({ hash: 'diagnose', expected: /400|401/ }, async (page, mock) => {
    await page.getByLabel('Target').fill('-oProxyCommand=x');
    await page.getByRole('button', { name: 'Traceroute' }).click();
    await page.getByRole('alert').filter({ hasText: 'neither a host name nor an address' }).waitFor();
    mock.state.canChange = false;
    await page.getByLabel('Target').fill('8.8.8.8');
    await page.getByRole('button', { name: 'Traceroute' }).click();
    await page.getByRole('alert').filter({ hasText: 'a token is needed' }).waitFor();
  });
  await withPage({ hash: 'diagnose', prepare: (mock) => (mock.state.accepts = false) }, async (page) => {
    await page.getByText('accepts no commands').waitFor();
    assert.ok(await page.getByRole('button', { name: 'Traceroute' }).isDisabled());
  });
});

test('a flood of events stays bounded', MOCK_ONLY, async () => {
  await withPage({ hash: 'packets' }, async (page, mock) => {
    await connected(page);
    for (let batch = 0; batch < 40; batch += 1) {
      mock.push('packets', Array.from({ length: 500 }, (_, i) => packetLike(mock, { id: `x${batch}-${i}`, src_ip: `10.7.${batch}.${i % 250}` })));
    }
    mock.push('packets', [packetLike(mock, { src_ip: '198.51.100.80', unix_ms: Date.now() + 5000 })]);
    await page.locator('tbody', { hasText: '198.51.100.80' }).waitFor({ timeout: PATIENCE_MS });
    assert.ok((await page.locator('tbody tr').count()) <= 100);
  });
});

test('memory does not grow with what has passed', MOCK_ONLY, async () => {
  await withPage({ hash: 'packets' }, async (page, mock) => {
    await connected(page);
    const session = await page.context().newCDPSession(page);
    const flood = async (/** @type {string} */ name) => {
      for (let batch = 0; batch < 40; batch += 1) {
        mock.push('packets', Array.from({ length: 500 }, (_, i) => packetLike(mock, { id: `${name}${batch}-${i}` })));
        mock.push('flows', Array.from({ length: 200 }, (_, i) => ({ ...mock.scene.flowList[0], flow_id: `${name}${batch}-${i}`, last_unix_ms: Date.now() })));
      }
      mock.push('packets', [packetLike(mock, { src_ip: `198.51.100.${name}`, unix_ms: Date.now() + 5000 })]);
      await page.locator('tbody', { hasText: `198.51.100.${name}` }).waitFor();
      // More than once: what a first collection finalises only a later one frees.
      for (let i = 0; i < 3; i += 1) await session.send('HeapProfiler.collectGarbage');
      return (await session.send('Runtime.getHeapUsage')).usedSize;
    };
    await flood('1');
    const before = await flood('2');
    await flood('3');
    const after = await flood('4');
    console.log(`heap between floods: ${before} then ${after} bytes`);
    // What is kept grows with every flood; what a collector of garbage has not got round to does not.
    let growth = after - before;
    for (let i = 5; growth >= HEAP_GROWTH_MAX_BYTES && i < 8; i += 1) growth = Math.min(growth, (await flood(String(i))) - after);
    assert.ok(growth < HEAP_GROWTH_MAX_BYTES, `${before} then ${after} bytes, and ${growth} more at best after that`);
  });
});

test('who reads further down is not pushed about', MOCK_ONLY, async () => {
  await withPage({ hash: 'packets' }, async (page, mock) => {
    await connected(page);
    const region = page.getByRole('region', { name: 'Packets, rows' });
    await page.locator('tbody tr').nth(50).waitFor();
    await region.evaluate((element) => element.scrollTo({ top: 400 }));
    await page.waitForFunction(() => document.querySelector('.table-scroll')?.scrollTop === 400);
    // The page is told of the scrolling with the next frame.
    await drawn(page);
    const first = await page.locator('tbody tr').first().textContent();
    mock.push('packets', [packetLike(mock, { src_ip: '198.51.100.81' })]);
    const newer = page.getByRole('button', { name: '1 newer' });
    await newer.waitFor();
    assert.equal(await page.locator('tbody tr').first().textContent(), first);
    await newer.click();
    await page.locator('tbody', { hasText: '198.51.100.81' }).waitFor();
    await newer.waitFor({ state: 'detached' });
  });
});

test('a flow that changes its verdict leaves the list it no longer belongs to', MOCK_ONLY, async () => {
  await withPage({ hash: 'flows?verdict=NORMAL' }, async (page, mock) => {
    await connected(page);
    const flow = { ...mock.scene.flowList[0], flow_id: 'turns', verdict: 'NORMAL', src_ip: '198.51.100.82', last_unix_ms: Date.now() };
    mock.push('flows', [flow]);
    await page.locator('tbody', { hasText: '198.51.100.82' }).waitFor();
    mock.push('flows', [{ ...flow, verdict: 'SUSPICIOUS', last_unix_ms: Date.now() + 10 }]);
    await page.locator('tbody tr', { hasText: '198.51.100.82' }).waitFor({ state: 'detached' });
  });
});

test('a hidden tab lets go of the feed and takes it up again', MOCK_ONLY, async () => {
  await withPage({}, async (page, mock) => {
    await connected(page);
    await eventually(() => assert.equal(mock.listeners.size, 1));
    const show = (/** @type {boolean} */ hidden) =>
      page.evaluate((value) => {
        Object.defineProperty(document, 'hidden', { configurable: true, get: () => value });
        document.dispatchEvent(new Event('visibilitychange'));
      }, hidden);
    await show(true);
    await eventually(() => assert.equal(mock.listeners.size, 0, 'the feed is closed after the grace'));
    const asked = mock.log.length;
    await page.waitForTimeout(3000);
    assert.equal(mock.log.length, asked, 'a hidden tab asks nothing');
    await show(false);
    await connected(page);
  });
});

test('an event that is no JSON is counted and breaks nothing', MOCK_ONLY, async () => {
  await withPage({ hash: 'sensors' }, async (page, mock) => {
    await connected(page);
    for (const listener of mock.listeners) listener.write('event: packets\ndata: {nonsense\n\n');
    await page.getByText('Live events not understood').waitFor();
  });
});

test('figures of a real collector move while it has a live sensor', { skip: REAL ? false : 'NETML_DASHBOARD_URL names no collector' }, async (t) => {
  const status = await (await fetch(`${REAL}/api/status`)).json();
  if (!(status.sensors_connected > 0)) {
    t.skip('no sensor is connected to the collector');
    return;
  }
  await withPage({}, async (page) => {
    await connected(page);
    const read = () => page.locator('[data-tile=total] .tile-value').textContent();
    const first = await read();
    await page.waitForFunction((before) => document.querySelector('[data-tile=total] .tile-value')?.textContent !== before, first, { timeout: 60_000 });
  });
});
