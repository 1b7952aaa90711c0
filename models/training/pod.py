"""What each node of a distributed training gets on a cluster."""

from __future__ import annotations

from pathlib import Path

from caloforge.errors import InputError
from caloforge.kubernetes_rules import Image, NamespaceOrNone, ObjectName
from caloforge.pods import IMAGE, Pod
from caloforge.temporary import scratch_folder


class TrainingPod(Pod):
    """What each pod of a TrainJob gets, and where it finds its data.

    Attributes:
        image: container image with this package; never tag it ``latest``.
        namespace: where the TrainJob runs; where this runs without it.
        service_account: account that the pods run as; the namespace's default without it.
        runtime: the cluster's ClusterTrainingRuntime.
        shared: folder within one of ``claims`` through which this step and the pods exchange
            showers, checkpoints and the bundle; the claim is mounted at the same path in both.
    """

    image: Image = IMAGE
    namespace: NamespaceOrNone = ""
    service_account: ObjectName | None = None
    runtime: ObjectName = "torch-distributed"
    shared: str = ""

    def check_shared(self) -> None:
        """Refuse what cannot be shared.

        Raises:
            InputError: there is no shared folder, or no claim holds it.
        """
        example = "e.g. {claims: {my-claim: /mnt/shared}, shared: /mnt/shared/caloforge}"
        if not self.shared:
            raise InputError(
                "a TrainJob needs storage that its pods and this step share: give the pod settings a claim that many "
                f"nodes may write (ReadWriteMany) and a folder on it, {example}, and mount it in this step too"
            )
        if not any(Path(self.shared).is_relative_to(path) for path in self.claims.values()):
            raise InputError(f"shared: {self.shared} is on none of the claims of the pod settings; {example}")

    def shared_folder(self) -> Path:
        """Return the shared folder, once it is sure that it is one.

        Raises:
            InputError: see :meth:`check_shared`; or it cannot be written from here.
        """
        self.check_shared()
        folder = Path(self.shared)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with scratch_folder(folder):
                pass
        except OSError as error:
            text = f"{folder}: cannot write here ({error.strerror}); is the claim mounted in this step, at this path?"
            raise InputError(text) from None
        return folder
