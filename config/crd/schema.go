// Package crd judges and completes objects of kinds that are defined by a
// CustomResourceDefinition, as an API server does that has it.
//
// The schemas under schemas/ are those of the definitions that come with the module
// of the kind's Go types, without their descriptions (TestSchemas prints them and
// keeps them equal). A rule that a definition writes in CEL is named there by its
// message, and is a function of the table in rules.go: there are few of them, most of
// a few forms, and an interpreter would be larger than all of this program's
// validation. A test keeps that table complete.
//
// Unknown fields and wrong types are found by package strict before; what is not of
// the right type here is passed over.
package crd

import (
	"embed"
	"encoding/json"
	"fmt"
	"regexp"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/mallamesh/malla/config/kind"
)

//go:embed schemas/*.json
var files embed.FS

// A Schema says what a value may be.
type Schema struct {
	Type       string             `json:"type,omitempty"`
	Properties map[string]*Schema `json:"properties,omitempty"`
	Items      *Schema            `json:"items,omitempty"`
	Additional *Schema            `json:"additionalProperties,omitempty"`
	Required   []string           `json:"required,omitempty"`
	Default    any                `json:"default,omitempty"`
	Enum       []any              `json:"enum,omitempty"`
	Pattern    string             `json:"pattern,omitempty"`
	Minimum    *float64           `json:"minimum,omitempty"`
	Maximum    *float64           `json:"maximum,omitempty"`
	MinLength  int                `json:"minLength,omitempty"`
	MaxLength  *int               `json:"maxLength,omitempty"`
	MinItems   int                `json:"minItems,omitempty"`
	MaxItems   *int               `json:"maxItems,omitempty"`
	MaxProps   *int               `json:"maxProperties,omitempty"`
	ListType   string             `json:"x-kubernetes-list-type,omitempty"`
	ListKeys   []string           `json:"x-kubernetes-list-map-keys,omitempty"`
	// Rules are the messages of the rules that hold for the value.
	Rules []string `json:"rules,omitempty"`

	pattern *regexp.Regexp
}

// A Definition is what an API server knows of a kind beside its type.
type Definition struct {
	Spec   *Schema `json:"spec"`
	Status any     `json:"status,omitempty"` // of an object that no controller has seen
}

var definitions sync.Map // *kind.Kind -> *Definition, nil in it for none; made at first use

// Of returns the definition of a kind, nil if it has none here.
func Of(k *kind.Kind) *Definition {
	if k.Group != kind.GatewayAPI {
		return nil
	}
	if d, ok := definitions.Load(k); ok {
		return d.(*Definition)
	}
	data, err := files.ReadFile("schemas/" + k.Kind + ".json")
	if err != nil {
		return nil
	}
	d := new(Definition)
	if err := utiljson.Unmarshal(data, d); err != nil {
		panic(fmt.Sprintf("config/crd: embedded schema of %s: %v", k.Kind, err)) // a test reads every one
	}
	d.Spec.compile()
	stored, _ := definitions.LoadOrStore(k, d)
	return stored.(*Definition)
}

// UnmarshalJSON keeps whole numbers of defaults whole, as objects have them.
func (s *Schema) UnmarshalJSON(data []byte) error {
	type plain Schema
	if err := json.Unmarshal(data, (*plain)(s)); err != nil {
		return err
	}
	var whole struct {
		Default any `json:"default"`
	}
	if err := utiljson.Unmarshal(data, &whole); err != nil {
		return err
	}
	s.Default = whole.Default
	return nil
}

func (s *Schema) compile() {
	if s == nil {
		return
	}
	if s.Pattern != "" {
		s.pattern = regexp.MustCompile(s.Pattern)
	}
	for _, p := range s.Properties {
		p.compile()
	}
	s.Items.compile()
	s.Additional.compile()
}

// Complete fills in the defaults of an object's spec, in place.
func (d *Definition) Complete(object map[string]any) {
	if spec, ok := object["spec"].(map[string]any); ok {
		d.Spec.complete(spec)
	}
}

func (s *Schema) complete(v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, p := range s.Properties {
			have, ok := v[name]
			if (!ok || have == nil) && p.Default != nil {
				v[name] = runtime.DeepCopyJSONValue(p.Default)
			}
			p.complete(v[name])
		}
		if s.Additional != nil {
			for _, e := range v {
				s.Additional.complete(e)
			}
		}
	case []any:
		if s.Items != nil {
			for _, e := range v {
				s.Items.complete(e)
			}
		}
	}
}
