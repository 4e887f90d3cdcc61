// Package status writes what the control plane finds wrong with an object to where
// people look for it: the object.
//
// Istio's kinds carry it in their status, in Istio's shape. The condition
// Reconciled is False, with the findings as lines of its message; each finding is
// one of validationMessages, with the name and code that Istio's analysis has for
// it, as dashboards show them. An object of which nothing is to be said is not
// written at all: a mesh that is in order costs no write, and what was written goes
// when its cause has gone. Conditions of others stay as they are.
//
// Other kinds (a ConfigMap with the mesh's settings, a Service) have no place of
// that shape: a finding about one is an Event, which `describe` shows, and is
// deleted when the finding goes.
//
// Kinds of Gateway API always say how it is with them ([Wanted.Status]); findings beside
// that are Events.
//
// What is wrong is not decided here: package compile does, and says how long
// something may still be on its way. A [Writer] is given all findings each time and
// writes what differs, so it may be told as often as one likes; it never reacts to a
// status that somebody else writes, so that two control planes that disagree do not
// write against each other for ever.
package status
