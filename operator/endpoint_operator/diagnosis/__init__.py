"""Why an endpoint is not ready: from its Deployment and pods to the cause that a user can act on.

``reconcile`` calls ``diagnose`` before it computes a status. Where only a pod's Warning events can
tell, the answer names the pod: reconcile reads them once and calls again with them. Nothing here
reads a clock or the cluster, and no text changes unless the cause did: a message with a counter or
a pod's name in it would be written anew at each retry.
"""

from endpoint_operator.diagnosis.causes import Cause, Diagnosis
from endpoint_operator.diagnosis.diagnose import diagnose
from endpoint_operator.diagnosis.refusals import refusal

__all__ = ["Cause", "Diagnosis", "diagnose", "refusal"]
