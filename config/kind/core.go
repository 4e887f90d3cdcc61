package kind

// ign and ref make the rows of fields that share a reason.
func ign(why string, paths ...string) []Field { return rows(Ignored, why, paths) }
func ref(why string, paths ...string) []Field { return rows(Refused, why, paths) }

func rows(class Class, why string, paths []string) []Field {
	fields := make([]Field, len(paths))
	for i, p := range paths {
		fields[i] = Field{Path: p, Class: class, Why: why}
	}
	return fields
}

// only restricts rows to some values of the field, or with "!" to all but one.
func only(fields []Field, values ...string) []Field {
	for i := range fields {
		fields[i].Values = values
	}
	return fields
}

func join(lists ...[]Field) (all []Field) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// below puts the paths under each of the prefixes.
func below(fields []Field, prefixes ...string) (all []Field) {
	for _, p := range prefixes {
		for _, f := range fields {
			f.Path = p + "." + f.Path
			all = append(all, f)
		}
	}
	return all
}

var namespaceFields = only(ign("nothing finalizes namespaces here", "spec.finalizers"), "![kubernetes]")

var serviceAccountFields = join(
	ign("images are programs of this machine and are not pulled", "imagePullSecrets"),
	ign("tokens are made for each pod", "secrets"),
)

var serviceFields = join(
	ign("the mesh balances each request; clients are not bound to one pod", "spec.sessionAffinityConfig"),
	only(ign("the mesh balances each request; clients are not bound to one pod", "spec.sessionAffinity"), "!None"),
	ign("ports are published on this machine's loopback addresses; see `malla up --publish`",
		"spec.externalIPs", "spec.loadBalancerIP", "spec.loadBalancerSourceRanges", "spec.loadBalancerClass",
		"spec.healthCheckNodePort"),
	only(ign("every port of a LoadBalancer has a node port too, and both are published on this machine", "spec.allocateLoadBalancerNodePorts"), "!true"),
	only(ign("there is one machine", "spec.externalTrafficPolicy"), "!Cluster"),
)

var endpointSliceFields = join(
	ign("there is one machine, and it is in one zone", "endpoints[].hints", "endpoints[].zone", "endpoints[].deprecatedTopology"),
	only(ign("what is not an address is behind no Service, in Istio neither; use a Service of type ExternalName or a ServiceEntry with resolution DNS", "addressType"), "FQDN"),
)

const (
	whyOneMachine = "there is one machine; nothing is scheduled"
	whyHardening  = "containers are processes of this machine without capabilities, whatever is asked"
	whyNoImages   = "images are programs of this machine and are not pulled"
	whyNoVolume   = "not supported; use a claim (persistentVolumeClaim, a directory that outlives the pod) or an emptyDir volume"
	whyOwnSpace   = "not supported: every pod has namespaces of its own here"
)

// podFields returns the rows of a pod's spec at the given path.
func podFields(at string) []Field {
	return below(join(
		ign(whyOneMachine, "nodeSelector", "affinity", "tolerations", "topologySpreadConstraints", "priorityClassName", "priority",
			"preemptionPolicy", "overhead", "runtimeClassName", "schedulingGroup", "os"),
		only(ign(whyOneMachine, "schedulerName"), "!default-scheduler"),
		ign(whyHardening, "securityContext", "hostUsers"),
		ign("resources are not limited here", "resources"),
		ign(whyNoImages, "imagePullSecrets"),
		only(ign("pods ask the mesh's DNS, which asks this machine's for other names", "dnsPolicy"), "!ClusterFirst"),
		ign("pods ask the mesh's DNS, which asks this machine's for other names", "dnsConfig"),
		only(ign("every container has processes of its own here, which the pod's others do not see", "shareProcessNamespace"), "true"),
		ign("host names are short here", "setHostnameAsFQDN", "hostnameOverride"),
		ref(whyOwnSpace, "hostNetwork", "hostPID", "hostIPC"),
		ref("not supported: nothing here would ever open the gate", "schedulingGates", "readinessGates"),
		ref("not supported: no devices are handed out here", "resourceClaims"),
		ref("not supported; use `malla exec`", "ephemeralContainers"),
		ref("not supported: pods run until they are deleted", "activeDeadlineSeconds"),
		below(containerFields, "containers[]", "initContainers[]"),
		ref("sidecars among the init containers are "+whyNotYet+"; use containers", "initContainers[].restartPolicy"),
		below(volumeFields, "volumes[]"),
	), at)
}

var containerFields = join(
	ign("resources are not limited here", "resources", "resizePolicy"),
	ign(whyNoImages, "imagePullPolicy"),
	ign(whyHardening, "securityContext"),
	only(ign("a container's last message is in its log", "terminationMessagePath"), "!/dev/termination-log"),
	only(ign("a container's last message is in its log", "terminationMessagePolicy"), "!File"),
	ign("containers are stopped by SIGTERM", "lifecycle.stopSignal"),
	ign("ports are published with `malla up --publish`", "ports[].hostPort", "ports[].hostIP"),
	ign("volumes are not shared with this machine", "volumeMounts[].mountPropagation", "volumeMounts[].recursiveReadOnly"),
	ref("not supported: there are no block devices here", "volumeDevices"),
	ref("not supported; use a config map or a secret", "env[].valueFrom.fileKeyRef"),
	ref("not supported", "restartPolicyRules"),
	ref("not supported yet; use subPath", "volumeMounts[].subPathExpr"),
	ign("a failed probe ends the container with the pod's own grace", "livenessProbe.terminationGracePeriodSeconds", "startupProbe.terminationGracePeriodSeconds"),
	ign("standard input stays open", "stdinOnce"),
)

var volumeFields = join(
	ref("not supported: every pod has file systems of its own; use a configMap for files and an emptyDir for scratch space", "hostPath"),
	ref(whyNoVolume, "ephemeral", "csi", "nfs", "iscsi", "glusterfs", "rbd", "flexVolume", "cinder", "cephfs", "flocker", "fc",
		"azureFile", "azureDisk", "vsphereVolume", "quobyte", "photonPersistentDisk", "portworxVolume", "scaleIO", "storageos", "gcePersistentDisk", "awsElasticBlockStore"),
	ref("not supported; use a configMap", "gitRepo", "image"),
	ign("scratch space is memory of this machine, up to a quarter of it for all pods together", "emptyDir.medium", "emptyDir.sizeLimit"),
	ref(whyNotYet, "projected.sources[].clusterTrustBundle", "projected.sources[].podCertificate"),
)
