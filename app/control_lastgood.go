package app

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/mesh"
)

// A lastGood keeps the last settings of the mesh without a mistake where a control plane finds them that starts while there is one.
type lastGood struct {
	client corev1client.ConfigMapInterface
	log    *slog.Logger
	texts  chan settingTexts // the newest
}

// settingTexts are MeshConfig and MeshNetworks.
type settingTexts struct{ mesh, networks string }

func textsOf(data map[string]string) settingTexts {
	return settingTexts{data[mesh.Key], data[mesh.NetworksKey]}
}

func (t settingTexts) data() map[string]string {
	out := map[string]string{mesh.Key: t.mesh}
	if t.networks != "" {
		out[mesh.NetworksKey] = t.networks
	}
	return out
}

func newLastGood(client corev1client.ConfigMapInterface, log *slog.Logger) *lastGood {
	return &lastGood{client: client, log: log, texts: make(chan settingTexts, 1)}
}

// keep has the settings of a ConfigMap kept, the defaults if it is nil. It does not wait. Only one goroutine may call it.
func (l *lastGood) keep(from *config.Object) {
	var text settingTexts
	if from != nil {
		text = textsOf(from.Value.(*corev1.ConfigMap).Data)
	}
	select {
	case <-l.texts: // an older one, which nobody has written
	default:
	}
	l.texts <- text
}

// run writes until ctx ends.
func (l *lastGood) run(ctx context.Context) {
	const retry = 5 * time.Second
	told := false
	for {
		var text settingTexts
		select {
		case text = <-l.texts:
		case <-ctx.Done():
			return
		}
		for err := l.write(ctx, text); err != nil; err = l.write(ctx, text) {
			if ctx.Err() == nil && !told {
				told = true
				l.log.Warn("the settings of the mesh cannot be kept for a restart; it is tried again", "err", err)
			}
			select {
			case text = <-l.texts:
			case <-time.After(retry):
			case <-ctx.Done():
				return
			}
		}
	}
}

// write makes the ConfigMap hold the texts, if it does not.
func (l *lastGood) write(ctx context.Context, text settingTexts) error {
	have, err := l.client.Get(ctx, mesh.LastGood, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = l.client.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: mesh.LastGood, Labels: map[string]string{"istio.io/config": "true"}},
			Data: text.data()}, metav1.CreateOptions{})
	case err == nil && textsOf(have.Data) != text:
		next := have.DeepCopy()
		next.Data = text.data()
		_, err = l.client.Update(ctx, next, metav1.UpdateOptions{})
	}
	return err
}
