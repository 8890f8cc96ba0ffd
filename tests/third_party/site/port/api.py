"""djangochannelsrestframework: the actions of a model, one instance watched, and all of them."""

from djangochannelsrestframework import mixins
from djangochannelsrestframework.decorators import action
from djangochannelsrestframework.generics import GenericAsyncAPIConsumer
from djangochannelsrestframework.observer import model_observer
from djangochannelsrestframework.observer.generics import ObserverModelInstanceMixin
from rest_framework.permissions import AllowAny
from rest_framework.serializers import ModelSerializer

from port.models import Ship


class ShipSerializer(ModelSerializer):
    class Meta:
        model = Ship
        fields = ["id", "name", "berth"]


class ShipConsumer(
    ObserverModelInstanceMixin,
    mixins.ListModelMixin,
    mixins.CreateModelMixin,
    mixins.PatchModelMixin,
    mixins.DeleteModelMixin,
    GenericAsyncAPIConsumer,
):
    queryset = Ship.objects.order_by("id")
    serializer_class = ShipSerializer
    permission_classes = [AllowAny]

    @model_observer(Ship)
    async def ship_activity(self, message, observer=None, subscribing_request_ids=(), **kwargs):
        for request_id in subscribing_request_ids:
            await self.reply(action="activity", data=message, request_id=request_id)

    @ship_activity.serializer
    def ship_activity(self, instance, action, **kwargs):
        return {"ship": instance.name, "what": action.value}

    @action()
    async def watch_all(self, request_id, **kwargs):
        await self.ship_activity.subscribe(request_id=request_id)
        return {}, 200

    @action()
    def count_in_a_thread(self, **kwargs):
        return {"ships": Ship.objects.count(), "user": str(self.scope["user"])}, 200
