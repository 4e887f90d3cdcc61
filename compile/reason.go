package compile

import (
	"strings"

	"github.com/mallamesh/malla/config/mesh"
)

// A Reason says of which sort a problem is, in one word, for programs that read a
// status. Where Istio's analysis has a message for it, name and code are its.
type Reason struct{ Name, Code string }

// Documentation returns where the reason is explained, "" if it is malla's own.
func (r Reason) Documentation() string {
	if !strings.HasPrefix(r.Code, "IST") {
		return ""
	}
	return "https://istio.io/docs/reference/config/analysis/" + strings.ToLower(r.Code) + "/"
}

// The reasons that there are.
var (
	Invalid          = Reason{"SchemaValidationError", "IST0106"}
	Weak             = Reason{"SchemaWarning", "IST0133"}
	NotFound         = Reason{"ReferencedResourceNotFound", "IST0101"}
	HostConflict     = Reason{"ConflictingMeshGatewayVirtualServiceHosts", "IST0109"}
	Unreachable      = Reason{"VirtualServiceUnreachableRule", "IST0130"}
	GatewayConflict  = Reason{"ConflictingGateways", "IST0145"}
	AddressesMissing = Reason{"ServiceEntryAddressesRequired", "IST0134"}
	UnknownHost      = Reason{"UnknownDestinationRuleHost", "IST0174"}
	SelectsNothing   = Reason{"NoMatchingWorkloadsFound", "IST0127"}
	SidecarConflict  = Reason{"MultipleSidecarsWithoutWorkloadSelectors", "IST0111"}
	PolicyConflict   = Reason{"ConflictingPolicies", "MAL0001"}
	DoubleTLS        = Reason{"TLSInTLS", "MAL0002"}
	Repeats          = Reason{"RetriesRepeatRequests", mesh.RepeatsCode}
)
