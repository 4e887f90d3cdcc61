//go:build linux

package app

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// restartHint is what to type so that pods begin anew, in the mesh that they are of; each sort of workload has a command of its own. A pod that
// nobody makes again is not helped by one.
func restartHint(dir string, pods []*corev1.Pod) string {
	var commands []string
	alone := false
	for _, p := range pods {
		owner := metav1.GetControllerOf(p)
		var kind string
		switch {
		case owner == nil:
			alone = true
			continue
		case owner.Kind == "ReplicaSet":
			kind = "deployment"
		case owner.Kind == "StatefulSet" || owner.Kind == "DaemonSet":
			kind = strings.ToLower(owner.Kind)
		default:
			continue // a Job's next pod is a new one
		}
		command := fmt.Sprintf("malla %srollout restart %s -n %s", meshFlag(filepath.Base(dir)), kind, p.Namespace)
		if !slices.Contains(commands, command) {
			commands = append(commands, command)
		}
	}
	slices.Sort(commands)
	out := ""
	if len(commands) > 0 {
		out = "; type: " + strings.Join(commands, "; ")
	}
	if alone {
		out += "; what has no controller must be deleted and made anew"
	}
	return out
}
