package filterstate

import (
	"strconv"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/pool"
)

// Objects that others look for stand under names of their own, of requests and of connections. Each name has what makes a
// text one of them; nil: anything.
var (
	Objects = map[string]func(string) bool{
		"envoy.ratelimit.hits_addend": isNumber,
		pool.WishServerName:           nil,
		pool.WishNames:                nil,
		pool.WishALPN:                 nil,
		pool.WishDestination:          isAddress,
		listen.OriginalLocal:          isAddress,
		listen.OriginalRemote:         isAddress,
	}
	ConnectionObjects = map[string]func(string) bool{
		pool.WishServerName:  nil,
		pool.WishNames:       nil,
		pool.WishALPN:        nil,
		pool.WishDestination: isAddress,
		listen.OriginalLocal: isAddress, listen.OriginalRemote: isAddress,
		pool.WishCluster: nil,
		pool.WishIdle:    isNumber,
		pool.WishHost:    nil,
		pool.WishPort:    isPort,
	}
)

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

func isAddress(s string) bool {
	_, ok := pipe.ParseAddrPort(s)
	return ok
}

// Object returns what makes a text the object of a request that factory makes for key, and whether there is one.
func Object(key, factory string) (is func(string) bool, ok bool) {
	if is, named := Objects[key]; named {
		return is, factory == key
	}
	return nil, factory == "envoy.string" || factory == "envoy.hashable_string"
}
