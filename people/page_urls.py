"""Pages of one's account."""

from django.urls import path

from people import standing_views, views
from people.erasure.views import account_delete_page
from people.invitations.views import invitation_page
from people.sign_in_views import sign_in_elsewhere
from people.transfers.views import transfer_page

urlpatterns = [
    path("invitation/<str:secret>/", invitation_page, name="invitation"),
    path("bank/give/", transfer_page, name="bank-give"),
    path("account/", views.account_page, name="account-page"),
    path("account/delete/", account_delete_page, name="account-delete"),
    path("accounts/oidc/<str:provider_id>/login/", sign_in_elsewhere, name="openid_connect_login"),
    path("account/profile/", views.profile_page, name="account-profile"),
    path("account/sessions/<int:session_id>/end/", views.session_end_page, name="account-session-end"),
    path("account/tokens/", views.tokens_page, name="account-tokens"),
    path("account/tokens/<int:token_id>/revoke/", views.token_revoke_page, name="account-token-revoke"),
    path("account/research/", standing_views.research_page, name="account-research"),
    path("account/team/", standing_views.team_page, name="account-team"),
    path("account/team/invitation/", standing_views.team_invitation_page, name="team-invitation"),
    path("account/team/leave/", standing_views.team_leave_page, name="team-leave"),
    path("account/team/members/<int:member_id>/remove/", standing_views.team_remove_page, name="team-remove"),
    path("account/team/join/<str:invitation>/", standing_views.team_join_page, name="team-join"),
]
