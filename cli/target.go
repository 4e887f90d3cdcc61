package cli

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// A target is the mesh that verbs act on: the local one if it runs and no
// kubeconfig flag is given, else the cluster of the kubeconfig. It is chosen when
// a verb first asks, and then stays.
type target struct {
	find    func(name string) (*Local, error)
	env     func(string) string
	flags   *genericclioptions.ConfigFlags
	mesh    string
	local   bool
	set     *pflag.FlagSet
	chosen  sync.Once
	client  clientcmd.ClientConfig // of the local mesh; nil: a cluster
	err     error
	mu      sync.Mutex // guards the two below
	cached  discovery.CachedDiscoveryInterface
	mapping meta.RESTMapper
}

var _ genericclioptions.RESTClientGetter = (*target)(nil)

func newTarget(find func(string) (*Local, error), streams genericiooptions.IOStreams, env func(string) string) *target {
	f := genericclioptions.NewConfigFlags(true).WithWarningPrinter(streams)
	// What malla offers of kubectl's flags for reaching a cluster; the rest belongs
	// into the kubeconfig.
	f.Username, f.Password, f.TLSServerName, f.Insecure, f.CertFile, f.KeyFile, f.CAFile = nil, nil, nil, nil, nil, nil, nil
	f.Impersonate, f.ImpersonateUID, f.ImpersonateGroup, f.ImpersonateUserExtra = nil, nil, nil, nil
	f.CacheDir, f.DisableCompression, f.ProxyURL = nil, nil, nil
	rest.SetDefaultWarningHandler(rest.NewWarningWriter(streams.ErrOut, rest.WarningWriterOptions{
		Deduplicate: true, Color: printers.AllowsColorOutput(streams.ErrOut)}))
	return &target{find: find, env: env, flags: f}
}

func (t *target) addFlags(f *pflag.FlagSet) {
	t.set = f
	f.StringVar(&t.mesh, "mesh", "", "act on the local mesh of this `name` (default $MALLA_MESH, else \"default\")")
	f.BoolVar(&t.local, "local", false, "act on the local mesh, never on a cluster")
	t.flags.AddFlags(f)
}

// meshName is the name of the local mesh that is meant.
func (t *target) meshName() string {
	if t.mesh != "" {
		return t.mesh
	}
	if m := t.env("MALLA_MESH"); m != "" {
		return m
	}
	return "default"
}

// kubeconfigFlags say that a cluster is meant.
var kubeconfigFlags = []string{"kubeconfig", "context", "cluster", "user", "server", "token"}

func (t *target) clusterFlag() string {
	for _, name := range kubeconfigFlags {
		if t.set.Changed(name) {
			return name
		}
	}
	return ""
}

// choose settles the target.
func (t *target) choose() error {
	t.chosen.Do(func() { t.client, t.err = t.pick() })
	return t.err
}

func (t *target) pick() (clientcmd.ClientConfig, error) {
	named := t.mesh != "" || t.env("MALLA_MESH") != ""
	flag := t.clusterFlag()
	if flag != "" {
		if t.local || t.mesh != "" {
			return nil, fmt.Errorf("--%s names a cluster, --local and --mesh the mesh on this machine: give one of them", flag)
		}
		return nil, nil
	}
	if t.find != nil {
		l, err := t.find(t.meshName())
		if err != nil {
			return nil, err
		}
		if l != nil {
			return clientcmd.NewDefaultClientConfig(*l.kubeconfig(), &clientcmd.ConfigOverrides{
				Context: clientcmdapi.Context{Namespace: *t.flags.Namespace},
				Timeout: *t.flags.Timeout,
			}), nil
		}
	}
	// A mesh that was named is meant, and nothing else: falling back to a cluster
	// would let `delete` loose on the wrong one.
	if t.local || named {
		return nil, Hint(fmt.Errorf("no local mesh %q runs", t.meshName()), "malla %sup DIR", t.meshFlag())
	}
	raw, err := t.flags.ToRawKubeConfigLoader().RawConfig()
	if err == nil && len(raw.Clusters) == 0 && os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		return nil, Hint(errors.New("no local mesh runs, and there is no kubeconfig that names a cluster"), "malla up DIR, or give --kubeconfig FILE")
	}
	return nil, err
}

func (t *target) meshFlag() string {
	if n := t.meshName(); n != "default" {
		return "--mesh " + n + " "
	}
	return ""
}

// kubeconfig describes the local mesh as a cluster.
func (l *Local) kubeconfig() *clientcmdapi.Config {
	name := "malla-" + l.Mesh
	c := clientcmdapi.NewConfig()
	c.Clusters[name] = &clientcmdapi.Cluster{Server: l.Server, CertificateAuthorityData: l.CA}
	c.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: l.Token}
	c.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name, Namespace: "default"}
	c.CurrentContext = name
	return c
}

// ToRawKubeConfigLoader implements genericclioptions.RESTClientGetter.
func (t *target) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	if err := t.choose(); err != nil {
		return broken{err}
	}
	if t.client != nil {
		return t.client
	}
	return t.flags.ToRawKubeConfigLoader()
}

// ToRESTConfig implements genericclioptions.RESTClientGetter.
func (t *target) ToRESTConfig() (*rest.Config, error) {
	if err := t.choose(); err != nil {
		return nil, err
	}
	if t.client == nil {
		return t.flags.ToRESTConfig()
	}
	c, err := t.client.ClientConfig()
	if err != nil {
		return nil, err
	}
	c.QPS = -1 // the server is on this machine
	return c, nil
}

// ToDiscoveryClient implements genericclioptions.RESTClientGetter. Discovery of a
// local mesh is one request, so nothing is kept on disk.
func (t *target) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	if err := t.choose(); err != nil {
		return nil, err
	}
	if t.client == nil {
		return t.flags.ToDiscoveryClient()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cached == nil {
		c, err := t.ToRESTConfig()
		if err != nil {
			return nil, err
		}
		d, err := discovery.NewDiscoveryClientForConfig(c)
		if err != nil {
			return nil, err
		}
		t.cached = memory.NewMemCacheClient(d)
	}
	return t.cached, nil
}

// ToRESTMapper implements genericclioptions.RESTClientGetter.
func (t *target) ToRESTMapper() (meta.RESTMapper, error) {
	if err := t.choose(); err != nil {
		return nil, err
	}
	if t.client == nil {
		return t.flags.ToRESTMapper()
	}
	d, err := t.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mapping == nil {
		t.mapping = restmapper.NewShortcutExpander(restmapper.NewDeferredDiscoveryRESTMapper(d), d, nil)
	}
	return t.mapping, nil
}

// broken is a client configuration that tells why there is none.
type broken struct{ err error }

func (b broken) RawConfig() (clientcmdapi.Config, error) { return clientcmdapi.Config{}, b.err }
func (b broken) ClientConfig() (*rest.Config, error)     { return nil, b.err }
func (b broken) Namespace() (string, bool, error)        { return "", false, b.err }
func (b broken) ConfigAccess() clientcmd.ConfigAccess    { return nil }
