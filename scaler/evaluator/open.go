package evaluator

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

// maxNameLength is that of a Kubernetes object's name.
const maxNameLength = 253

// Lookup returns the trigger of a call, opening it on the first one. The error wraps
// ErrMetadata or ErrTooMany.
func (e *Evaluator) Lookup(namespace, scaledObject string, metadata map[string]string) (*Trigger, error) {
	o := cluster.NamespacedName{Namespace: namespace, Name: scaledObject}
	if o.Namespace == "" || o.Name == "" || len(o.Namespace) > maxNameLength || len(o.Name) > maxNameLength {
		return nil, fmt.Errorf("%w: a ScaledObject needs a namespace and a name of at most %d bytes", ErrMetadata, maxNameLength)
	}
	if t := e.triggers.find(o, metadata); t != nil {
		t.used.Store(time.Now().UnixNano())
		return t, nil
	}
	return e.open(o, metadata, false)
}

// open returns an open trigger, or opens it. Calls for the same one open it once. It has
// an answer at once, although nothing has been read yet.
func (e *Evaluator) open(o cluster.NamespacedName, metadata map[string]string, declared bool) (*Trigger, error) {
	if t := e.triggers.find(o, metadata); t != nil {
		return t, nil
	}
	k := key(o, metadata)
	t, err, _ := e.opening.Do(k, func() (any, error) {
		if t := e.triggers.get(o, k); t != nil {
			return t, nil
		}
		declared = declared || e.isDeclared(o, metadata)
		// Before the metadata are parsed: refusing a flood of calls must be cheap.
		if err := e.triggers.full(o, declared); err != nil {
			return nil, err
		}
		spec, err := trigger.Parse(metadata)
		if err == nil {
			err = e.answerable(spec)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMetadata, err)
		}
		return e.start(newTrigger(e, o, k, maps.Clone(metadata), spec, declared))
	})
	if err != nil {
		return nil, err
	}
	return t.(*Trigger), nil
}

// start makes a new trigger one of the open ones.
func (e *Evaluator) start(t *Trigger) (*Trigger, error) {
	if err := t.start(e.triggers.add); err != nil {
		t.close()
		return nil, err
	}
	// The ScaledObject can have changed before the registry had the trigger.
	e.triggers.setDeclared(t, e.isDeclared(t.object, t.metadata))
	e.evaluateSoon(t, 0)
	e.opts.Logger.Info("trigger opened", append(t.attributes(), "declared", t.declared.Load())...)
	return t, nil
}

func (e *Evaluator) isDeclared(o cluster.NamespacedName, metadata map[string]string) bool {
	if e.opts.Cluster == nil {
		return false
	}
	so, err := e.opts.Cluster.ScaledObject(o.Namespace, o.Name)
	return err == nil && declares(so.Triggers, metadata)
}

// answerable is an error if this scaler cannot answer the trigger: it runs without
// Kubernetes, and the trigger needs it.
func (e *Evaluator) answerable(t *trigger.Trigger) error {
	if t.Prometheus != nil && e.opts.Prometheus == nil {
		return fmt.Errorf("prometheusAddress: %q; this scaler does not query Prometheus servers", t.Prometheus.Address)
	}
	if e.opts.Cluster != nil {
		return nil
	}
	without := func(key, value, lacks string) error {
		return fmt.Errorf("%s: %q; this scaler runs without Kubernetes, and would not know %s", key, value, lacks)
	}
	switch key, value := t.Capacity.Declared(); {
	case t.Prometheus != nil:
		return without("prometheusAddress", t.Prometheus.Address, "how many replicas there are")
	case t.Follow != nil:
		return without("follow", t.Follow.String(), "the leader")
	case key != "":
		return without(key, value, "the GPUs")
	case t.Upstream != nil && t.Upstream.Service.Name != "":
		return without("upstream", t.Upstream.Service.String(), "the Service's endpoints")
	case t.AuthSecret != "":
		return without("authSecret", t.AuthSecret, "what it holds")
	case t.CASecret != "":
		return without("caSecret", t.CASecret, "what it holds")
	case len(t.Endpoints) == 0:
		return errors.New("endpoints: missing; wanted: host:port,… for this scaler runs without Kubernetes")
	}
	return nil
}
