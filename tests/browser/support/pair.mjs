// Pair: a certificate and its key in files of their own, made by openssl.

import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** { cert, key, fingerprint, replace, clear }: `replace(name)` puts another pair into the same files and returns its fingerprint. */
export async function makePair(name) {
  const directory = await mkdtemp(join(tmpdir(), 'onair-pair-'));
  const [cert, key] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  const make = async (commonName) => {
    await run('openssl', [
      'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '90', '-subj', `/CN=${commonName}`,
      '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', `${key}.new`, '-out', `${cert}.new`,
    ]);
    // One after the other, as whatever renews them does.
    await rename(`${key}.new`, key);
    await rename(`${cert}.new`, cert);
    return { fingerprint: new X509Certificate(await readFile(cert)).fingerprint256 };
  };
  return { cert, key, ...await make(name), replace: make, clear: () => rm(directory, { recursive: true, force: true }) };
}
