#!/usr/bin/env bash
# Deploy volumes, init job, worker, trainer and server to Kubernetes, in the order in which each needs the one before.
#   scripts/deploy-retrain-feature.sh [--namespace NAME] [--no-build] [--dry-run]
# A broker must be there already, at kafka:9092 in the namespace. The settings are those of the liver example; other
# settings and brokers need the chart (docs/deploying.md).
set -euo pipefail
cd "$(dirname "$0")/.."

namespace=mlops-project build=yes dry_run=''
image=$(sed -n 's/^ *image: "\(.*\)"$/\1/p' deploy/k8s/worker.yaml)

usage() {
  sed -n 's/^#   \(scripts.*\)/usage: \1/p' "$0" >&2
  exit 2
}

while (($#)); do
  case $1 in
    --namespace | -n) namespace=${2:?"$1 needs a name"} && shift 2 ;;
    --no-build) build='' && shift ;;
    --dry-run) dry_run=yes && shift ;;
    *) echo "deploy-retrain-feature: unknown argument '$1'" >&2 && usage ;;
  esac
done

step() { echo "==> $*" >&2; }

run() {
  if [[ $dry_run ]]; then
    echo "${*@Q}" | sed "s/'\([[:alnum:]_.:/=-]*\)'/\1/g"
  else
    "$@"
  fi
}

kube() { run kubectl --namespace "$namespace" "$@"; }

need() {
  [[ $dry_run ]] || command -v "$1" >/dev/null || {
    echo "deploy-retrain-feature: needs $1, $2" >&2
    exit 1
  }
}

# kubectl's own words stay above ours
failed() {
  echo "deploy-retrain-feature: $1" >&2
  exit 1
}

make_key() {
  local create=(stream-app keys create --name deploy --scopes admin --json)
  if [[ $dry_run ]]; then
    echo "kubectl --namespace $namespace exec deploy/stream-app-worker -- ${create[*]} | (its key into the secret stream-app-key)"
    return
  fi
  if kubectl --namespace "$namespace" get secret stream-app-key >/dev/null 2>&1; then
    echo "the secret stream-app-key is there already"
    return
  fi
  # through a pipe: on a command line others on this machine could read it
  kubectl --namespace "$namespace" exec deploy/stream-app-worker -- "${create[@]}" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["key"], end="")' |
    kubectl --namespace "$namespace" create secret generic stream-app-key --from-file=key=/dev/stdin
}

need kubectl 'with access to the cluster'

if [[ $build ]]; then
  need docker 'or --no-build when the cluster can pull the image already'
  step "1/6 building $image"
  run docker build --file deploy/Dockerfile --tag "$image" .
fi

step "2/6 namespace $namespace and volumes (data 5 GB, models 2 GB, shared models 1 GB)"
if [[ $dry_run ]] || ! kubectl get namespace "$namespace" >/dev/null 2>&1; then
  run kubectl create namespace "$namespace"
fi
kube apply --filename deploy/k8s/persistent-volumes.yaml

step '3/6 settings'
kube apply --filename deploy/k8s/settings.yaml
# a job cannot be changed, only made anew
kube delete job stream-app-init --ignore-not-found

step '4/6 init job: checks the settings, makes the topics'
kube apply --filename deploy/k8s/init-job.yaml
kube wait --for=condition=complete job/stream-app-init --timeout=120s ||
  failed "the init job did not complete; see: kubectl --namespace $namespace logs job/stream-app-init"

step '5/6 worker and trainer'
kube apply --filename deploy/k8s/worker.yaml --filename deploy/k8s/trainer.yaml
for name in worker trainer; do
  kube rollout status "deployment/stream-app-$name" --timeout=300s ||
    failed "the $name is not ready; see: kubectl --namespace $namespace logs deployment/stream-app-$name"
done

step '6/6 a first key, then the server, which refuses to start without one'
make_key
kube apply --filename deploy/k8s/serve.yaml
kube rollout status deployment/stream-app-serve --timeout=300s ||
  failed "the server is not ready; see: kubectl --namespace $namespace logs deployment/stream-app-serve"

cat >&2 <<END
==> done. From this machine:
  kubectl --namespace $namespace port-forward service/stream-app-serve 8000
  key=\$(kubectl --namespace $namespace get secret stream-app-key --output jsonpath='{.data.key}' | base64 --decode)
  curl --header "Authorization: Bearer \$key" http://127.0.0.1:8000/models
END
