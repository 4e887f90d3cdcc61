package document

import (
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/base/field"
)

// Protobuf's own two forms stand here. Which of them a file has its name says, as for Envoy.

func isBinary(name string) bool { return strings.HasSuffix(strings.ToLower(name), ".pb") }
func isText(name string) bool   { return strings.HasSuffix(strings.ToLower(name), ".pb_text") }

// readProtobuf fills m with what is in one of protobuf's forms. Fields that nobody knows are left for those who judge the
// message; in text they are mistakes.
func readProtobuf(name string, text []byte, m proto.Message) error {
	if isBinary(name) {
		if err := (proto.UnmarshalOptions{RecursionLimit: maxDepth}).Unmarshal(text, m); err != nil {
			return field.List{{Pos: name, Msg: "is no " + string(m.ProtoReflect().Descriptor().FullName()) + " in protobuf's binary form"}}
		}
		return nil
	}
	err := prototext.Unmarshal(text, m)
	if err == nil {
		return nil
	}
	line, msg := 0, strings.TrimSpace(strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto:")) // which it varies on purpose
	if at := atLine.FindStringSubmatch(msg); at != nil {
		line, _ = strconv.Atoi(at[1])
		msg = msg[len(at[0]):]
	}
	return field.List{{Pos: position(name, line), Msg: "is not protobuf's text form: " + msg}}
}

var atLine = regexp.MustCompile(`^(?:syntax error )?\(line (\d+):\d+\): `)
