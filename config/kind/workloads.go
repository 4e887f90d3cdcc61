package kind

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// workloads are Kubernetes' kinds that make pods, besides Deployments.
var workloads = []*Kind{
	{Group: "apps", Versions: []string{"v1"}, Kind: "StatefulSet", Plural: "statefulsets", Short: []string{"sts"}, Categories: []string{"all"}, Namespaced: true, Subresources: []string{"status", "scale"},
		Fields: join(podFields("spec.template.spec"),
			below(join(
				ign("a claim is a directory of this machine, of no class and as large as there is room", "accessModes", "resources", "storageClassName", "volumeAttributesClassName", "selector", "volumeName"),
				only(ref("there are no block devices here", "volumeMode"), "!Filesystem"),
				ref("a claim begins empty", "dataSource", "dataSourceRef"),
			), "spec.volumeClaimTemplates[].spec"),
			ign("what a claim holds is the cluster's to say", "spec.volumeClaimTemplates[].status"),
			ign("old templates are not kept", "spec.revisionHistoryLimit"),
			ign("the directories of claims stay", "spec.persistentVolumeClaimRetentionPolicy"),
		),
		New: func() runtime.Object { return new(appsv1.StatefulSet) }},
	{Group: "apps", Versions: []string{"v1"}, Kind: "DaemonSet", Plural: "daemonsets", Short: []string{"ds"}, Categories: []string{"all"}, Namespaced: true, Subresources: []string{"status"},
		Fields: join(podFields("spec.template.spec"),
			ign("there is one machine, and the old pod makes room for the new one", "spec.updateStrategy.rollingUpdate"),
			ign("old templates are not kept", "spec.revisionHistoryLimit"),
		),
		New: func() runtime.Object { return new(appsv1.DaemonSet) }},
	{Group: "batch", Versions: []string{"v1"}, Kind: "Job", Plural: "jobs", Categories: []string{"all"}, Namespaced: true, Subresources: []string{"status"},
		Fields: jobFields("spec"),
		New:    func() runtime.Object { return new(batchv1.Job) }},
	{Group: "batch", Versions: []string{"v1"}, Kind: "CronJob", Plural: "cronjobs", Short: []string{"cj"}, Categories: []string{"all"}, Namespaced: true, Subresources: []string{"status"},
		Fields: jobFields("spec.jobTemplate.spec"),
		New:    func() runtime.Object { return new(batchv1.CronJob) }},
}

// jobFields returns the rows of a Job's spec at the given path.
func jobFields(at string) []Field {
	return join(podFields(at+".template.spec"), below(join(
		ref("other controllers of Jobs are not there", "managedBy"),
		ref("a Job finds its pods by a label of its own; leave it out", "selector", "manualSelector"),
		ign("a pod that ends is replaced when it has ended or is on its way out", "podReplacementPolicy"),
	), at))
}
