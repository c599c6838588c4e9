"""One process of a cluster without jax, for test_lifeline.py.

`process.py PORT NUM_PROCESSES PROCESS_ID FACTS timeout=SECONDS ACTION...`: FACTS is JSON; the actions begin once all
have met.
"""

import json
import sys
import time

from ltjax.cluster import meeting
from ltjax.errors import UserError


def main(port: str, num_processes: str, process_id: str, facts: str, *actions: str) -> None:
    try:
        line = meeting.join(
            'localhost',
            int(port),
            num_processes=int(num_processes),
            process_id=int(process_id),
            facts=json.loads(facts),
            timeout=float(actions[0].removeprefix('timeout=')),
            grace=1.0,
        )
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    print('joined', flush=True)
    for action in actions[1:]:
        match action.split('='):
            case ['sleep', seconds]:
                time.sleep(float(seconds))
            case ['hang']:
                time.sleep(600)
            case ['fail', status]:
                line.fail('no more\nmemory', int(status))
            case ['leave', status]:
                line.leave(int(status))
                sys.exit(int(status))


if __name__ == '__main__':
    main(*sys.argv[1:])
