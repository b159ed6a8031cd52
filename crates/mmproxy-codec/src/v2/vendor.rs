//! Vectors that cloud providers send in the custom range 0xE0 to 0xEF (§2.2.8).
//!
//! The range belongs to nobody, so a value of another form is no error: it is somebody else's.

use nom::IResult;
use nom::Parser;
use nom::bytes::complete::tag;
use nom::combinator::all_consuming;
use nom::number::complete::{be_u8, be_u64, le_u32};
use nom::sequence::preceded;

use super::tlv::{TlvType, TlvValue, ascii};

/// Where a connection through Alibaba Cloud's PrivateLink came from; one vector carries one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Alibaba<'a> {
    /// Id of the client's VPC.
    VpcId(&'a str),
    /// Id of the endpoint.
    EndpointId(&'a str),
    /// Id of the endpoint service.
    ServiceId(&'a str),
}

/// The value as its vendor's, if it has that form.
pub(super) fn parse(kind: TlvType, value: &[u8]) -> Option<TlvValue<'_>> {
    match kind {
        TlvType::GCP => gcp_psc_connection_id(value).map(TlvValue::GcpPscConnectionId),
        TlvType::ALIBABA => alibaba(value).map(TlvValue::Alibaba),
        TlvType::AWS => aws_vpc_endpoint_id(value).map(TlvValue::AwsVpcEndpointId),
        TlvType::AZURE => azure_private_endpoint_link_id(value).map(TlvValue::AzurePrivateEndpointLinkId),
        _ => None,
    }
}

/// Subtype 1, then `vpce-…` in US-ASCII.
pub(super) fn aws_vpc_endpoint_id(value: &[u8]) -> Option<&str> {
    let parsed: IResult<_, _> = tag([1].as_slice()).parse(value);
    parsed.ok().and_then(|(id, _)| ascii(id).ok())
}

/// Subtype 1, then the id: little endian, unlike every other number in a header.
pub(super) fn azure_private_endpoint_link_id(value: &[u8]) -> Option<u32> {
    let parsed: IResult<_, u32> = all_consuming(preceded(tag([1].as_slice()), le_u32)).parse(value);
    parsed.ok().map(|(_, id)| id)
}

/// Eight bytes.
pub(super) fn gcp_psc_connection_id(value: &[u8]) -> Option<u64> {
    let parsed: IResult<_, u64> = all_consuming(be_u64).parse(value);
    parsed.ok().map(|(_, id)| id)
}

/// A subtype, then an id in US-ASCII.
pub(super) fn alibaba(value: &[u8]) -> Option<Alibaba<'_>> {
    let parsed: IResult<_, u8> = be_u8(value);
    let (id, subtype) = parsed.ok()?;
    let id = ascii(id).ok()?;
    match subtype {
        1 => Some(Alibaba::VpcId(id)),
        2 => Some(Alibaba::EndpointId(id)),
        3 => Some(Alibaba::ServiceId(id)),
        _ => None,
    }
}
