// The description of the doors is OpenAPI 3.1, as another maker's validator has it.

import assert from 'node:assert/strict';
import { Validator } from '@seriousme/openapi-schema-validator';
import { scenario } from '../browser/support/scenario.mjs';

scenario('the server describes itself in valid OpenAPI 3.1', async (stage) => {
  const server = await stage.serve('--record', 'off');
  const description = await server.api('/api/openapi.json');
  const validator = new Validator();
  const { valid, errors } = await validator.validate(structuredClone(description));
  assert.deepEqual({ valid, errors, version: validator.version }, { valid: true, errors: undefined, version: '3.1' });
  // And it would say so if it were not.
  for (const spoil of [
    (it) => delete it.info.version,
    (it) => delete it.paths['/api/broadcasts'].get.responses['200'].description,
    (it) => (it.paths['/ws'].get.parameters[0].in = 'nowhere'),
    (it) => (it.components.securitySchemes.query.in = 'body'),
  ]) {
    const spoilt = structuredClone(description);
    spoil(spoilt);
    assert.equal((await new Validator().validate(spoilt)).valid, false, `${spoil}`);
  }
});
