// Drives the API as applications do, with two public clients: `node drive.mjs FOLDER BASE TOKEN`. FOLDER holds node_modules.
import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

const [folder, base, token] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(join(folder, 'node_modules', path)));
const { Client, CapabilityTool } = await load('fhir-kit-client/dist/index.js');
const smart = (await load('fhirclient/lib/entry/node.js')).default;

const patient = (family) => ({ resourceType: 'Patient', name: [{ family }], gender: 'female', birthDate: '1980-01-31' });
const observation = (id, value) => ({ resourceType: 'Observation', status: 'final', code: { text: 'pulse' }, subject: { reference: `Patient/${id}` },
  valueQuantity: { value, unit: '/min', system: 'http://unitsofmeasure.org', code: '/min' } });
const status = async (promise) => promise.then(() => 200, (e) => e.response?.status ?? e.status ?? e.statusCode);

async function fhirKit() {
  const c = new Client({ baseUrl: base, bearerToken: token });
  const tool = new CapabilityTool(await c.capabilityStatement());
  assert.ok(await tool.resourceCan('Patient', 'read'), 'the capability statement says that patients are read');

  const made = await c.create({ resourceType: 'Patient', body: patient('Kit') });
  assert.equal(made.meta.versionId, '1');
  assert.equal((await c.read({ resourceType: 'Patient', id: made.id })).name[0].family, 'Kit');
  const updated = await c.update({ resourceType: 'Patient', id: made.id, body: { ...made, active: true } });
  assert.equal(updated.meta.versionId, '2');
  await c.patch({ resourceType: 'Patient', id: made.id, jsonPatch: [{ op: 'replace', path: '/gender', value: 'other' }] });
  assert.equal((await c.vread({ resourceType: 'Patient', id: made.id, version: '1' })).gender, 'female');
  assert.equal((await c.history({ resourceType: 'Patient', id: made.id })).entry.length, 3);
  assert.equal(await status(c.update({ resourceType: 'Patient', id: made.id, body: updated, options: { headers: { 'If-Match': 'W/"1"' } } })), 412);

  for (const n of [60, 70, 80]) await c.create({ resourceType: 'Observation', body: observation(made.id, n) });
  let page = await c.search({ resourceType: 'Observation', searchParams: { patient: made.id, _count: '2' } });
  const seen = page.entry.map((e) => e.resource.id);
  page = await c.nextPage({ bundle: page });
  seen.push(...page.entry.map((e) => e.resource.id));
  assert.equal(new Set(seen).size, 3);
  assert.equal((await c.search({ resourceType: 'Observation', searchParams: { patient: made.id, 'value-quantity': 'gt65' }, options: { postSearch: true } })).entry.length, 2);
  assert.equal((await c.search({ resourceType: 'Observation', compartment: { resourceType: 'Patient', id: made.id } })).total, 3);
  assert.equal((await c.resolve({ reference: page.entry[0].resource.subject.reference })).id, made.id);

  const answered = await c.transaction({ body: { resourceType: 'Bundle', type: 'transaction', entry: [
    { fullUrl: 'urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0', resource: patient('Transactionsen'), request: { method: 'POST', url: 'Patient' } },
    { resource: observation('x', 1), request: { method: 'POST', url: 'Observation' } },
  ].map((e) => (e.resource.subject ? { ...e, resource: { ...e.resource, subject: { reference: 'urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0' } } } : e)) } });
  assert.deepEqual(answered.entry.map((e) => e.response.status.slice(0, 3)), ['201', '201']);
  const batch = await c.batch({ body: { resourceType: 'Bundle', type: 'batch', entry: [{ request: { method: 'GET', url: 'Patient/nobody' } }] } });
  assert.equal(batch.entry[0].response.status.slice(0, 3), '404');
  const everything = await c.operation({ name: 'everything', resourceType: 'Patient', id: made.id, method: 'GET' });
  assert.equal(everything.entry.filter((e) => e.resource.resourceType !== 'Provenance').length, 4);
  const outcome = await c.operation({ name: 'validate', resourceType: 'Patient', input: { resourceType: 'Patient', gender: 'green' } });
  assert.equal(outcome.issue[0].severity, 'error');
  assert.equal(await status(c.read({ resourceType: 'Patient', id: 'nobody' })), 404);

  for (const e of (await c.search({ resourceType: 'Observation', searchParams: { patient: made.id } })).entry) await c.delete({ resourceType: 'Observation', id: e.resource.id });
  await c.delete({ resourceType: 'Patient', id: made.id });
  assert.equal(await status(c.read({ resourceType: 'Patient', id: made.id })), 410);
}

async function fhirClient() {
  const c = smart({ url: '/', headers: { host: 'localhost' } }, {}).client({ serverUrl: base, tokenResponse: { access_token: token, token_type: 'Bearer' } });
  assert.equal(await c.getFhirVersion(), '4.0.1');
  const made = await c.create(patient('Client'));
  for (const n of [1, 2, 3]) await c.create(observation(made.id, n));
  const changed = await c.update({ ...made, active: true });
  assert.equal(changed.meta.versionId, '2');
  await c.patch(`Patient/${made.id}`, [{ op: 'add', path: '/gender', value: 'male' }]);
  const all = await c.request(`Observation?subject=Patient/${made.id}&_count=1`, { pageLimit: 0, flat: true, resolveReferences: ['subject'] });
  assert.equal(all.length, 3);
  assert.equal(all[0].subject.gender, 'male');
  const ids = [];
  for await (const o of c.resources(`Observation?subject=Patient/${made.id}&_count=2`)) ids.push(o.id);
  assert.equal(ids.length, 3);
  assert.equal(await status(c.request('Patient?nothing=1')), 400);
  for (const id of ids) await c.delete(`Observation/${id}`);
  await c.delete(`Patient/${made.id}`);
}

for (const drive of [fhirKit, fhirClient]) {
  await drive();
  console.log(`${drive.name}: all well`);
}
