// Package levels bounds how deep a tree is that was read from a stranger's text.
//
// Who walks such a tree by recursion, as compilers do, takes more than linear time and stack for one that is all depth. It is made for
// trees of whatever type: it sees structs, and what they have.
package levels

import "reflect"

// Exceed reports whether structs lie in each other deeper than most.
func Exceed(tree any, most int) bool { return exceed(reflect.ValueOf(tree), most) }

func exceed(v reflect.Value, left int) bool {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		return !v.IsNil() && exceed(v.Elem(), left)
	case reflect.Slice:
		for i := range v.Len() {
			if exceed(v.Index(i), left) {
				return true
			}
		}
	case reflect.Struct:
		if left == 0 {
			return true
		}
		for i := range v.NumField() {
			if exceed(v.Field(i), left-1) {
				return true
			}
		}
	}
	return false
}
