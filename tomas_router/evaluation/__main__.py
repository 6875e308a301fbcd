"""``python -m tomas_router.evaluation``, which is what ``tomas eval`` runs."""

from tomas_router.evaluation.evaluate import main

raise SystemExit(main())
