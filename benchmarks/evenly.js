// What k6 does: sends images at an even rate, whether or not the earlier ones have been answered. See k6.py.

import exec from 'k6/execution';
import http from 'k6/http';

const images = __ENV.IMAGES.split(',').map((path) => open(path, 'b'));
const params = { headers: { 'Content-Type': __ENV.CONTENT_TYPE }, timeout: '60s' };

export const options = {
  discardResponseBodies: true,
  scenarios: {
    evenly: {
      executor: 'constant-arrival-rate',
      rate: Math.round(1000 * __ENV.RATE),
      timeUnit: '1000s',
      duration: `${__ENV.FOR_S}s`,
      gracefulStop: '60s',
      preAllocatedVUs: Number(__ENV.CLIENTS),
    },
  },
  systemTags: ['status', 'error_code'],
};

export default function () {
  http.post(__ENV.URL, images[exec.scenario.iterationInTest % images.length], params);
}
