// Validates objects of the Prometheus operator by the schemas of its types.
//
//     node operator_objects.mjs < OBJECTS     a list in JSON
//
// Those schemas let unknown keys pass, so every key that the validation has not read is a problem, too. Prints a line for each
// problem, and how many objects there were.

import { PodMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor';
import { PrometheusRule } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule';
import { text } from 'node:stream/consumers';

const KINDS = { PodMonitor, PrometheusRule };

/// The same value; every key that is read by its name is in `read`, with the path before it.
function watched(value, path, read) {
  if (value === null || typeof value !== 'object') return value;
  return new Proxy(value, {
    get(target, key) {
      if (typeof key !== 'string' || !Object.hasOwn(target, key)) return target[key];
      read.add(`${path}/${key}`);
      return watched(target[key], `${path}/${key}`, read);
    },
  });
}

function paths(value, path = '') {
  if (value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([key, inner]) => [`${path}/${key}`, ...paths(inner, `${path}/${key}`)]);
}

function problems(object) {
  const Kind = KINDS[object.kind];
  if (!Kind || object.apiVersion !== 'monitoring.coreos.com/v1') return ['is of no kind that is known'];
  const read = new Set();
  const model = new Kind(object);
  // The model is a copy: what is validated is to be the one that is watched.
  const validated = Object.create(Kind.prototype);
  Object.assign(validated, { ...model, spec: watched(object.spec, '', read) });
  try {
    validated.validate();
  } catch (error) {
    return [error.message];
  }
  return paths(object.spec).filter((path) => !read.has(path)).map((path) => `spec${path} is unknown`);
}

const objects = JSON.parse(await text(process.stdin));
const found = objects.flatMap((object) => problems(object).map((problem) => `${object.kind} ${object.metadata.name}: ${problem}`));
found.forEach((problem) => console.log(problem));
console.log(`${objects.length} objects, ${found.length} problems`);
process.exit(found.length ? 1 : 0);
